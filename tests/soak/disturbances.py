"""What happens to an agent in the middle of what it does: at its n-th change of the disk or the journal.

Invariant: it happens once, in the process of the agent, and what outlasts that process is undone by `undo`.
"""

import os
import pickle
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.host.clock import SystemClock
from agent.host.storage.database import Database
from pusher.wire import Code, Failed
from tests.crash.forgetful_disk import ForgetfulDisk

YEAR_MS = 365 * 24 * 3600 * 1000
SIZE, INODES = 96 * 1024**2, 40_000
"""Of the filesystem that the place lies on, while nothing is wrong with it."""

_DESCRIPTORS = 3
_BYTES, _FEW_INODES = 48 * 1024, 5


class JumpingClock(SystemClock):
    """The real clock, with its time of day moved."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now(self) -> int:
        return super().now() + self.ahead_ms


class DisturbedDisk(ForgetfulDisk):
    """The real disk, at whose n-th change something happens. Changes of the journal count as well.

    It is armed by `arm`, until then it is the real disk. `changes` counts those after.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = JumpingClock()
        self.changes = 0
        self.happened = ""
        self.stop: Callable[[], None] = lambda: None
        self._kind = ""
        self._when = 0
        self._moment = Path()

    def arm(self, kind: str, at: int, *, top: Path, journal: Path, moment: Path) -> None:
        """From now on changes count. A power cut leaves the state of `top` and `journal` in the file `moment`."""
        self._kind, self._when, self._moment = kind, at, moment
        if kind.startswith("power cut"):
            self.begin(top, journal=journal)

    def change(self, op: str) -> None:
        """One more change: what is to happen at it happens."""
        if not self._when:
            return
        self.changes += 1
        if self.changes == self._when:
            self.happened = op
            self._happen(op)

    def _at(self, op: str) -> None:
        self.change(op)

    def _happen(self, op: str) -> None:
        match self._kind:
            case "kill -9" | "kill -9, and once more in the recovery":
                os.kill(os.getpid(), signal.SIGKILL)
            case "power cut" | "power cut, and a part survives":
                self._take(op)
                self._moment.write_bytes(pickle.dumps(self._moments[-1]))
                os.kill(os.getpid(), signal.SIGKILL)
            case "a change fails":
                raise Failed(Code.DISK_ERROR, f"Could not do {op}", why="Input/output error")
            case "stopped":
                self.stop()
            case "clock a year on":
                self.clock.ahead_ms = YEAR_MS
            case "clock a year back":
                self.clock.ahead_ms = -YEAR_MS
            case "no bytes left":
                fill(self._moment.parent, spare=_BYTES)
            case "no inodes left":
                fill(self._moment.parent, inodes=_FEW_INODES)
            case "no descriptors left":
                _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
                highest = max(int(name) for name in os.listdir("/proc/self/fd"))
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest + _DESCRIPTORS, most))


def database_of(disk: DisturbedDisk) -> type[Database]:
    """A journal whose changes count among those of the disk."""

    class CountedDatabase(Database):
        async def write(self, change: Callable[..., Any]) -> Any:
            disk.change("journal")
            return await super().write(change)

    return CountedDatabase


def mount(at: Path) -> None:
    """A filesystem in memory whose size can be changed. As root, in a mount namespace of its own."""
    options = f"size={SIZE},nr_inodes={INODES}"
    subprocess.run(("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at)), check=True)


def fill(at: Path, *, spare: int = 0, inodes: int = 0) -> None:
    """Leave `spare` bytes or so many inodes on the filesystem of a place."""
    found = os.statvfs(at)
    options = (
        f"nr_inodes={found.f_files - found.f_ffree + inodes}"
        if inodes
        else f"size={(found.f_blocks - found.f_bfree) * found.f_frsize + spare}"
    )
    subprocess.run(("mount", "-o", f"remount,{options}", str(at)), check=True)


def undo(at: Path) -> None:
    """All the room there was."""
    subprocess.run(("mount", "-o", f"remount,size={SIZE},nr_inodes={INODES}", str(at)), check=True)
