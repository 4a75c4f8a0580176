"""Whether an app accepts connections from the socket it was handed.

Asked while a connection to that socket stays unanswered. Nothing is accepted in its place, as that would hang up
on a visitor, and no right to the process that holds the socket is needed. Everything here blocks for a moment.
"""

import ipaddress
import select
import socket
from pathlib import Path

from agent.core.listen import parse_listen
from agent.host.net import proc


def accepts(sock: socket.socket) -> bool:
    """Whether something accepts from this listening socket of our own.

    If connections wait, an app that is stuck may still have accepted others. Over TCP the kernel shows
    that: a connection has no inode until it is accepted.
    """
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if not poll.poll(0):
        return True
    if sock.family == socket.AF_UNIX:
        return False
    found = proc.tcp_sockets(port=sock.getsockname()[1])
    return any(one.inode for one in found if one.state != proc.LISTEN)


def accepts_at(address: str, *, net: Path = proc.NET) -> bool:
    """As `accepts`, for a socket that another process holds at `address` (as in an app's `listen`): systemd's."""
    where = parse_listen(address)
    if isinstance(where, str):
        return proc.CONNECTING not in proc.unix_states(where, net=net)
    host, port = ipaddress.ip_address(where[0]), where[1]
    found = list(proc.tcp_sockets(port=port, net=net))
    waiting = any(one.queued for one in found if one.state == proc.LISTEN and one.host == host)
    return not waiting or any(one.inode for one in found if one.state != proc.LISTEN)
