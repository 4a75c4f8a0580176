"""Processes of an app that outlived a killed agent: found again, and ended before anything is started.

Invariant: nothing is signalled that cannot be shown to be ours. A process is known by its id *and* its start
time (and the boot both belong to), as ids are used again. The notes are about processes of this boot, so
they are written plainly: no power cut leaves one behind that could still be true.
"""

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path

from agent.host.run.process import kill_group

_GONE_S = 5.0
_LOOK_S = 0.01


def note(folder: Path, pid: int) -> None:
    """Remember a process that was started, and leads its process group. Blocking."""
    started = _start_time(pid)
    if started is not None:
        (folder / f"{pid}.pid").write_text(f"{started} {_boot()}\n")


def forget(folder: Path, pid: int) -> None:
    """The process has ended. Blocking. Idempotent."""
    (folder / f"{pid}.pid").unlink(missing_ok=True)


def end_noted(folder: Path, *, patience_s: float) -> list[int]:
    """End every noted process that still runs, with its group: TERM, and after `patience_s` seconds KILL.

    Returns the ids of those that ran; they are gone then, and the sockets they listened at free. Blocking.
    """
    found = []
    for path in sorted(folder.glob("*.pid")):
        if not path.stem.isdecimal():
            continue
        pid, noted = int(path.stem), path.read_text().split()
        if noted == [str(_start_time(pid)), _boot()]:
            found.append(pid)
            _end(pid, patience_s)
            _kill_group(pid)
        elif noted[1:] == [_boot()] and _start_time(pid) is None:
            # The leader is dead. Its number is not given to anybody else while its group lives on.
            _kill_group(pid)
        path.unlink()
    return found


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
    while _members(group) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)  # a group has no descriptor that could be waited for


def _members(group: int) -> list[int]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return [pid for pid in pids if (stat := _stat(pid)) and int(stat[2]) == group and stat[0] not in "ZX"]


def _start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None if there is none."""
    stat = _stat(pid)
    return int(stat[19]) if stat else None


def _stat(pid: int) -> list[str]:
    """Fields 3 (state) and on of proc_pid_stat(5); empty if there is no such process."""
    try:
        # The second field is the program's name in parentheses, which may itself hold some, and blanks.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
