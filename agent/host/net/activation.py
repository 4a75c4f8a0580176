"""Listening sockets that process 1 holds for the agent, and hands over when it starts it (sd_listen_fds(3)).

Invariant: what was handed over is what agent.toml says, and nothing beyond loopback; otherwise the agent does not
start. Nobody else can have these addresses from boot on, and connections wait while the agent is restarted.
"""

import ipaddress
import os
import socket
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from pusher.wire import Code, Refused

_FIRST = 3  # SD_LISTEN_FDS_START
_NAMES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
UNIT = "pusher-agent.socket"


def handed_over(environment: MutableMapping[str, str] = os.environ, *, first: int = _FIRST) -> list[socket.socket]:
    """The sockets that were handed to this very process; none if it was started in another way.

    Takes them out of the environment: they are not for what the agent starts.
    """
    pid, count, _ = (environment.pop(name, "") for name in _NAMES)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for descriptor in range(first, first + int(count)):
        os.set_inheritable(descriptor, False)
        found.append(socket.socket(fileno=descriptor))
    return found


def check(sockets: Sequence[socket.socket], *, address: str, path: Path, file: Path) -> None:
    """Check that these are the sockets of a door at `address` and `path`, as `file` has it, and on loopback.

    Raises: Refused(configuration).
    """
    places = [_place(sock) for sock in sockets]
    for wanted in (address, str(path)):
        if wanted not in places:
            raise Refused(
                Code.CONFIGURATION,
                f"Process 1 does not hold {wanted} for the agent",
                why=f"{file} says that the agent is asked there, and {UNIT} listens at {', '.join(places)}",
                hint="`pusher-agent door apply`, as root, makes the unit what the file says",
            )
    for sock, place in zip(sockets, places, strict=True):
        if (sock.family == socket.AF_UNIX and place != str(path)) or not _local(sock):
            raise Refused(
                Code.CONFIGURATION,
                f"{UNIT} listens at {place}",
                why="an agent is asked on loopback, and at its own unix socket",
                hint=f"Take it out of the unit: systemctl edit {UNIT}",
            )


def _place(sock: socket.socket) -> str:
    name = sock.getsockname()
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _local(sock: socket.socket) -> bool:
    """Not of IPv6: callers over it are not told by the kernel (agent/host/net/peer.py)."""
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    return sock.family == socket.AF_UNIX or (
        sock.family == socket.AF_INET and ipaddress.ip_address(sock.getsockname()[0]).is_loopback
    )
