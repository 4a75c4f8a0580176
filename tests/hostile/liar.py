"""A server that says what it likes, byte by byte, to every client: nothing of HTTP is checked on its side."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from pusher.transport.hosts import Host, parse_address

Answer = Callable[[bytes], Iterable[bytes]]
"""What is sent for a request, piece by piece; the request's head comes in."""

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Liar:
    """Answers every request with `answer`. `sent` counts the bytes that went out, `heads` are the requests."""

    def __init__(self, answer: Answer) -> None:
        self.sent = 0
        self.heads: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def host(self) -> Host:
        return Host("web1", parse_address(self.address))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        # Not close alone: the thread that accepts would hold the socket open.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._speak, args=(visitor,), daemon=True).start()

    def _speak(self, visitor: socket.socket) -> None:
        with visitor, visitor.makefile("rb") as said:
            try:
                while head := _head(said):
                    self.heads.append(head)
                    for piece in self._answer(head):
                        visitor.sendall(piece)
                        self.sent += len(piece)
            except OSError:
                return  # the client has hung up, as it should


def _head(said: BinaryIO) -> bytes:
    """The head of the next request; nothing, when the client has hung up."""
    lines = []
    while (line := said.readline()) not in (b"", b"\r\n"):
        lines.append(line)
    return b"".join(lines)


@contextmanager
def lying(answer: Answer) -> Iterator[Liar]:
    """A liar, for as long as the block runs."""
    liar = Liar(answer)
    try:
        yield liar
    finally:
        liar.close()


def document(body: bytes) -> bytes:
    """An answer of known length."""
    return OK + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def chunk(body: bytes, *, extension: bytes = b"") -> bytes:
    """A piece of a chunked answer."""
    return b"%x%b\r\n%b\r\n" % (len(body), extension, body)
