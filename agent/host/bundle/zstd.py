"""Zstandard frames from a stream, decompressed a block at a time, with bounded memory.

Invariant: what is yielded together with a normal end is one or more *whole* frames and nothing else; each
piece has at most 128 KiB, whatever the sender claims.

Why the walk over the blocks is our own: the library's stream reader ends as quietly in the middle of a frame
as at its end, and its decompression objects return all that a piece of input expands to, which for 64 KiB can
be 2 GiB. A block never expands to more than 128 KiB, so input cut at the blocks is bounded and whole.
Format: RFC 8878, sections 3.1.1 and 3.1.1.2.
"""

from collections.abc import Callable, Iterator

import zstandard

from pusher.wire import Code, Refused

WINDOW_MOST = 8 * 1024 * 1024
"""What RFC 8878 (3.1.1.1.2) asks every decoder to support; `zstd` stays within it up to level 19."""

Read = Callable[[int], bytes]
"""Reads at least one and at most so many bytes; none only at the end. Blocks; may raise Failed."""

_MAGIC = (0xFD2FB528).to_bytes(4, "little")
_BLOCK_MOST = 128 * 1024
_RLE, _RESERVED = 1, 3


def decompress(read: Read) -> Iterator[bytes]:
    """The content of the frames that `read` brings, in pieces. Raises: Refused(bundle_malformed)."""
    source = Exactly(read, "its compressed data")
    magic = source.take(4)
    while magic:
        if magic != _MAGIC:
            raise malformed("it is not compressed with zstd, or something follows where it should end")
        yield from _frame(source)
        magic = source.take(4, or_end=True)


class Exactly:
    """Takes exact numbers of bytes from a source that returns what it has."""

    def __init__(self, read: Read, name: str) -> None:
        self._read = read
        self._name = name

    def take(self, size: int, *, or_end: bool = False) -> bytes:
        """Just `size` bytes; with `or_end`, none if the source ends right here. Raises: Refused."""
        part = self._read(size) if size else b""
        if len(part) == size or (or_end and not part):
            return part
        parts, missing = [part], size - len(part)
        while missing and part:
            part = self._read(missing)
            parts.append(part)
            missing -= len(part)
        if missing:
            raise malformed(f"{self._name} ends early")
        return b"".join(parts)


def malformed(why: str) -> Refused:
    """The refusal of a bundle that is not of the format."""
    return Refused(
        Code.BUNDLE_MALFORMED,
        "The bundle cannot be read",
        why=why,
        hint="Pack it with `pusher pack` and send that file unchanged",
    )


def _frame(source: Exactly) -> Iterator[bytes]:
    header, checksum = _header(source)
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_MOST).decompressobj()
    try:
        yield decompressor.decompress(_MAGIC + header)
        last = 0
        while not last:
            head = source.take(3)
            number = int.from_bytes(head, "little")
            last, kind, size = number & 1, number >> 1 & 3, number >> 3
            if kind == _RESERVED or size > _BLOCK_MOST:
                raise malformed("its compressed data is damaged")
            block = source.take(1 if kind == _RLE else size)
            yield decompressor.decompress(head + block + source.take(4 if last and checksum else 0))
    except zstandard.ZstdError as error:
        raise malformed(f"its compressed data is damaged ({error})") from error
    if not decompressor.eof:
        raise malformed("its compressed data is damaged")


def _header(source: Exactly) -> tuple[bytes, bool]:
    """A frame's header behind its magic number, and whether a checksum follows the frame."""
    descriptor = source.take(1)
    flags = descriptor[0]
    single, checksum, dictionary = flags >> 5 & 1, bool(flags >> 2 & 1), flags & 3
    if flags >> 3 & 1 or dictionary:
        raise malformed("it is compressed in a way that needs more than the bundle itself")
    window = source.take(0 if single else 1)
    content = source.take((single, 2, 4, 8)[flags >> 6])
    if single:
        needed = int.from_bytes(content, "little") + (256 if len(content) == 2 else 0)
    else:
        base = 1 << (10 + (window[0] >> 3))
        needed = base + base // 8 * (window[0] & 7)
    if needed > WINDOW_MOST:
        raise malformed(
            f"decompressing it would take {needed} bytes of memory; {WINDOW_MOST} is the most "
            "(zstd up to level 19, without --long, stays within that)"
        )
    return descriptor + window + content, checksum
