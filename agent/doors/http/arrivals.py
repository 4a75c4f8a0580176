"""Connections as they arrive, and those that are dropped again at once.

Invariant: nothing here waits for a caller. To drop a connection costs less than to open it, or a flood would keep
everybody else waiting.
"""

import asyncio
import socket
from contextlib import suppress

from agent.doors.http.quota import TooMany
from agent.doors.http.responses import problem_bytes


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
            sock.recv(64 * 1024)  # closing with unread bytes would reset it, before the caller sees the answer
        sock.send(problem_bytes(problem, status=problem.status))
        sock.shutdown(socket.SHUT_WR)
