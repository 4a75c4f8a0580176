"""Which process has a certain socket open, as `/proc/PID/fd` lists them (proc_pid_fd(5)).

Everything here blocks for a moment.
"""

import os
from pathlib import Path

_PROC = Path("/proc")


def find_holder(inode: int) -> str:
    """A process that has this socket, as "gunicorn (process 123)"; empty if no visible one does."""
    name = _link(inode)
    for pid in sorted(int(one) for one in os.listdir(_PROC) if one.isdecimal()):
        if _has(pid, name):
            try:
                return f"{(_PROC / str(pid) / 'comm').read_text('utf-8').strip()} (process {pid})"
            except OSError:  # it has just ended
                continue
    return ""


def _link(inode: int) -> str:
    return f"socket:[{inode}]"


def _has(pid: int, name: str) -> bool:
    """Whether the process is seen to have this socket open."""
    folder = _PROC / str(pid) / "fd"
    try:
        return any(_target(folder / one) == name for one in os.listdir(folder))
    except OSError:  # it has ended, or belongs to another user
        return False


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""
