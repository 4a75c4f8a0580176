"""Connections as they arrive, and those that are dropped again at once.

Invariant: nothing here waits for a caller. To drop a connection costs less than to open it, or a flood would keep
everybody else waiting.
"""

import asyncio
import socket
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus

from agent.doors.http.quota import TooMany
from agent.doors.http.responses import problem_bytes

_UNREAD = bytearray(64 * 1024)
"""Where what a caller has sent is read to, and forgotten. To make room for that each time costs more."""


def withhold_silent(listener: socket.socket, seconds: int) -> None:
    """Have the kernel hand over a connection when it brings something, or after these seconds (tcp(7)).

    Who holds many and says nothing costs the agent nothing. To take and refuse a thousand of them, over and over,
    kept an operator waiting for over 100 ms. When 4,096 wait in the kernel, it goes on with SYN cookies, and hands
    over the rest at once, as without this.
    """
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, seconds)


async def next_connection(listener: socket.socket) -> socket.socket:
    """The next connection. Raises: OSError."""
    try:
        sock, _ = listener.accept()
    except BlockingIOError:
        sock, _ = await asyncio.get_running_loop().sock_accept(listener)
    sock.setblocking(False)
    return sock


def asks_nothing(sock: socket.socket) -> bool:
    """Whether the caller has closed a connection before it sent anything.

    It is not identified: in a flood of such connections, that costs more than everything else.
    """
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def dismiss(sock: socket.socket, problem: TooMany) -> None:
    """Answer and close a connection, without waiting for its request."""
    with suppress(OSError), sock:
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.recv_into(_UNREAD)  # closing with unread bytes would reset it, before the caller sees the answer
        sock.send(_dismissal(problem.why, problem.status))
        sock.shutdown(socket.SHUT_WR)


@lru_cache(maxsize=256)
def _dismissal(why: str, status: HTTPStatus) -> bytes:
    """Made once for many that are told the same: to make it takes a quarter of all that a refusal costs."""
    return problem_bytes(TooMany(why, status=status), status=status)
