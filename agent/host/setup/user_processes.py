"""The processes of an app's user, wherever they run.

Invariant: "ended" is reported only when the whole process table shows none. Stopping units is not enough: sessions
and lingering user managers run outside of their control groups, as the same user.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from pusher.wire import Code, Failed

_PATIENCE_S = 10.0
_PAUSE_S = 0.05

_KILL_ALL = "import os, sys; uid = int(sys.argv[1]); os.setgroups([]); os.setresuid(uid, uid, uid); os.kill(-1, 9)"
"""One call for all of them: if they were killed one by one, the others could fork meanwhile (kill(2))."""


def running(uid: int) -> list[int]:
    """The ids of the processes that have `uid` as any of their user ids (proc(5), status). Blocking."""
    return sorted(
        int(one) for one in os.listdir("/proc") if one.isdecimal() and _belongs(Path("/proc") / one, uid)
    )


def end(uid: int, *, patience_s: float = _PATIENCE_S) -> int:
    """Kill every process of `uid`, as root; how many there were. Blocking.

    Raises: Failed, if some are still there after `patience_s` seconds.
    """
    found = left = running(uid)
    deadline = time.monotonic() + patience_s
    while left:
        subprocess.run((sys.executable, "-I", "-S", "-c", _KILL_ALL, str(uid)), check=False, capture_output=True)
        left = running(uid)
        if left and time.monotonic() > deadline:
            raise Failed(
                Code.SERVICE_FAILED,
                f"Processes of user {uid} could not be ended",
                why=f"still running: {', '.join(map(str, left[:10]))}",
                hint="A process in the kernel (a disk that hangs) ends later. Run the same command again",
            )
        if left:
            time.sleep(_PAUSE_S)
    return len(found)


def _belongs(process: Path, uid: int) -> bool:
    try:
        lines = (process / "status").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return False  # it has ended
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return str(uid) in fields.get("Uid", "").split() and not fields.get("State", "").strip().startswith("Z")
