"""Orphans: processes of an app that outlived a killed agent. The next agent ends them before it starts anything.

Invariant: only processes that are proved to be ours are signalled. A process is known by its id *and* its start
time (and the boot that both belong to), as ids are used again. The records are about this boot, so they need not
survive a power cut.
"""

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path

from agent.host.run.process import kill_group
from agent.host.storage import volatile

_GONE_S = 5.0
_POLL_S = 0.01


def record(folder: Path, pid: int) -> None:
    """Record a process that was started, and leads its process group. Blocking. Raises: OSError."""
    started = _start_time(pid)
    if started is not None:
        volatile.write(folder / f"{pid}.pid", f"{started} {_boot()}\n")


def forget(folder: Path, pid: int) -> None:
    """Remove the record of a process that has ended. Blocking. Idempotent. Never raises.

    A record that stays does no harm, for a process is known by more than its id. An error would: what waits for
    the end of an app to start it again would wait for ever.
    """
    with suppress(OSError):
        volatile.remove(folder / f"{pid}.pid")


def end_recorded(folder: Path, *, patience_s: float) -> list[int]:
    """End every recorded process that still runs, with its group: TERM, and after `patience_s` seconds KILL.

    Returns the ids of those that ran. They are gone by then, and their sockets free. Blocking. Raises: OSError.
    """
    found = []
    for path in sorted(folder.glob("*.pid")):
        if not path.stem.isdecimal():
            continue
        pid, recorded = int(path.stem), path.read_text("utf-8").split()
        if recorded == [str(_start_time(pid)), _boot()]:
            found.append(pid)
            _end(pid, patience_s)
            _kill_group(pid)
        elif recorded[1:] == [_boot()] and _start_time(pid) is None:
            # The leader is dead. Its id is not used again while its group lives on.
            _kill_group(pid)
        volatile.remove(path)
    return found


def group_members(group: int) -> list[int]:
    """The ids of the living processes of a process group (zombies are not alive). Blocking."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return [pid for pid in pids if (stat := _stat(pid)) and int(stat[2]) == group and stat[0] not in "ZX"]


def _end(pid: int, patience_s: float) -> None:
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(patience_s * 1000)
        finally:
            os.close(descriptor)


def _kill_group(group: int) -> None:
    kill_group(group)
    deadline = time.monotonic() + _GONE_S
    while group_members(group) and time.monotonic() < deadline:
        time.sleep(_POLL_S)  # a group has no descriptor to wait for


def _start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None if there is none."""
    stat = _stat(pid)
    return int(stat[19]) if stat else None


def _stat(pid: int) -> list[str]:
    """Fields 3 (state) and on of proc_pid_stat(5); empty if there is no such process."""
    try:
        # The second field is the program's name in parentheses, and may itself contain parentheses and blanks.
        return Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
