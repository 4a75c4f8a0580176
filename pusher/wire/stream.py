"""Bytes that arrive in pieces, as a reader wants them: any number, an exact number, or whole lines.

Invariant: memory is bounded by what the caller asks for, whatever the sender does.
"""

from collections.abc import Callable, Iterator

from pusher.wire.problems import malformed_bundle

Read = Callable[[int], bytes]
"""Returns at least one and at most so many bytes; none only at the end. May block, and may raise."""


class PieceReader:
    """Pieces of any size as a `Read`."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._at = 0

    def read(self, size: int, /) -> bytes:
        """At least one and at most `size` bytes; none only at the end."""
        while self._at >= len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._piece, self._at = piece, 0
        part = self._piece[self._at : self._at + size]
        self._at += len(part)
        return part


def read_exactly(read: Read, size: int, *, name: str = "it", or_end: bool = False) -> bytes:
    """Exactly `size` bytes; with `or_end` also none, if the source ends right here.

    Raises: Refused(bundle_malformed), "`name` ends early", if there are fewer.
    """
    part = read(size) if size else b""
    if len(part) == size or (or_end and not part):
        return part
    parts, missing = [part], size - len(part)
    while missing and part:
        part = read(missing)
        parts.append(part)
        missing -= len(part)
    if missing:
        raise malformed_bundle(f"{name} ends early")
    return b"".join(parts)


class LineSplitter:
    """Pieces in, whole lines out, each without its newline.

    A line of more than `most` bytes comes out as its first `most + 1` bytes, as soon as so many are there; its
    rest is dropped. So a caller sees by the length that it is not whole: to cut, leave out or refuse it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = bytearray()
        self._dropping = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end with this piece. Its cost is that of the piece, however long the line is by then."""
        *ends, rest = piece.split(b"\n")
        lines = []
        for end in ends:
            if not self._dropping:
                lines.append(bytes(self._rest + end)[: self._most + 1])
            self._rest, self._dropping = bytearray(), False
        if not self._dropping:
            self._rest += rest
            if len(self._rest) > self._most:
                lines.append(bytes(self._rest[: self._most + 1]))
                self._rest, self._dropping = bytearray(), True
        return lines

    def end(self) -> bytes:
        """What came after the last newline; empty if nothing did. Afterwards nothing is left."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest
