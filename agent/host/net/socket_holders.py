"""Whether a process, or anything it started, still has a certain socket open.

Asked of a predecessor that was told to end: once none of its processes has the listening socket open, no new
request can reach it, however long it then takes to exit. Everything here blocks for a moment.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")


def holds(pid: int, sock: socket.socket) -> bool:
    """Whether `pid` or a descendant has the socket that `sock` is a descriptor of.

    True as well where that cannot be seen (somebody else's process): who asks goes on waiting for its end.
    """
    name = f"socket:[{os.fstat(sock.fileno()).st_ino}]"
    return any(_has(one, name) for one in _family(pid))


def _family(pid: int) -> Iterator[int]:
    """`pid` and its descendants, as far as they are still its own (proc(5), /proc/PID/task/TID/children)."""
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


def _has(pid: int, name: str) -> bool:
    folder = _PROC / str(pid) / "fd"
    try:
        return any(_target(folder / one) == name for one in os.listdir(folder))
    except PermissionError:
        return True
    except OSError:  # it has ended
        return False


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""
