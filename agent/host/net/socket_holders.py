"""Which processes have a certain socket open, as `/proc/PID/fd` lists them (proc_pid_fd(5)).

Asked of a predecessor that is about to end: once none of its processes has the listening socket open, no new
request can reach it, however long it then takes to exit. Everything here blocks for a moment.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")


def holds(pid: int, sock: socket.socket) -> bool:
    """Whether `pid` or a descendant has the socket that `sock` is a descriptor of.

    Also true for another user's process, whose descriptors cannot be listed: the caller waits for its end instead.
    """
    name = _link(os.fstat(sock.fileno()).st_ino)
    return any(_has(one, name, unseen=True) for one in _family(pid))


def find_holder(inode: int) -> str:
    """A process that has this socket, as "gunicorn (process 123)"; empty if no visible one does."""
    name = _link(inode)
    for pid in sorted(int(one) for one in os.listdir(_PROC) if one.isdecimal()):
        if _has(pid, name, unseen=False):
            try:
                return f"{(_PROC / str(pid) / 'comm').read_text().strip()} (process {pid})"
            except OSError:  # it has just ended
                continue
    return ""


def _link(inode: int) -> str:
    return f"socket:[{inode}]"


def _family(pid: int) -> Iterator[int]:
    """`pid` and its descendants, as far as they still have their parent (proc_tid_children(5))."""
    yield pid
    try:
        tasks = list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return
    for task in tasks:
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            yield from _family(int(child))


def _has(pid: int, name: str, *, unseen: bool) -> bool:
    """Whether the process has this socket open; `unseen` is the answer where its descriptors cannot be listed."""
    folder = _PROC / str(pid) / "fd"
    try:
        return any(_target(folder / one) == name for one in os.listdir(folder))
    except PermissionError:
        return unseen
    except OSError:  # it has ended
        return False


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""
