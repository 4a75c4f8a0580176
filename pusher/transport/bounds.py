"""How much an agent may send, and for how long: what comes in is counted and timed beneath HTTP.

Invariant: every byte that is read was allowed before, by `Inlet.allow`; so nothing that a server does within HTTP
(interim answers, headers, extensions of chunks, trailers) can go on for ever, or drop by drop.
"""

import io
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD_BYTES = 64 * 1024
"""Status line and headers, and what of the body comes along with them."""

DOCUMENT_BYTES = 4 * 1024**2
DOCUMENT_VALUES = 200_000
"""Values in a document. A list without anything in it takes 3 bytes to send and 64 to keep."""

LINE_BYTES = 4 * 1024**2
LINES = 20_000
"""Lines of a stream. A deployment has at most some 5,000 events, besides an empty line every 15 s."""


WHOLE_S = 60.0
"""How long an answer may take from its head to its end."""


class TooMuch(Exception):
    """A server sends more than it may."""


class Inlet:
    """A connected socket as `http.client` takes one, with what it brings counted and timed."""

    def __init__(self, sock: socket.socket, *, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._socket = sock
        self._elapsed = elapsed
        self._left = 0
        self._deadline = 0.0

    def allow(self, most: int, *, within_s: float) -> None:
        """From now on `most` bytes may be read, and all that is waited for is waited for together."""
        self._left = most
        self._deadline = self._elapsed() + within_s

    def receive(self, buffer: "WriteableBuffer") -> int:
        """Fill the buffer as far as there is something. Raises: TooMuch; TimeoutError; OSError."""
        if self._left <= 0:
            raise TooMuch
        left_s = self._deadline - self._elapsed()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)
        found = self._socket.recv_into(memoryview(buffer)[: self._left])
        self._left -= found
        return found

    def makefile(self, mode: str) -> io.BufferedReader:
        """What comes in, for `http.client`; closing it leaves the socket open."""
        return io.BufferedReader(_Source(self))

    def sendall(self, data: bytes) -> None:
        """Send all of it. Raises: OSError."""
        self._socket.sendall(data)

    def patience(self, seconds: float) -> None:
        """How long each `sendall` may take."""
        self._socket.settimeout(seconds)

    def hang_up(self) -> None:
        """Close the socket."""
        self._socket.close()

    def close(self) -> None:
        """Nothing: `http.client` closes what it sends by before it has read the last answer."""


class _Source(io.RawIOBase):
    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        return self._inlet.receive(buffer)
