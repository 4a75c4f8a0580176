"""Zstandard frames from a stream, decompressed a block at a time, with bounded memory.

Invariant: if `decompress` ends normally, it has yielded one or more *whole* frames and nothing else. Each piece
has at most 128 KiB, whatever the sender claims.

Why we walk over the blocks ourselves: for the library's stream reader, a cut frame ends like a whole one,
and its decompression objects return all that a piece of input expands to, which for 64 KiB can be 2 GiB. A block
never expands to more than 128 KiB, so input that is cut at the blocks is bounded and whole. Every frame and block
is counted against a budget: an empty one costs the sender nothing.
Format: RFC 8878, sections 3.1.1 and 3.1.1.2.
"""

from collections.abc import Iterator

import zstandard

from agent.host.bundle.budget import Budget
from pusher.wire.problems import malformed_bundle
from pusher.wire.stream import Read, read_exactly

WINDOW_MOST = 8 * 1024 * 1024
"""In bytes. RFC 8878 (3.1.1.1.2) asks every decoder to support this; `zstd` stays within it up to level 19."""

_MAGIC = (0xFD2FB528).to_bytes(4, "little")
_BLOCK_MOST = 128 * 1024
_RLE, _RESERVED = 1, 3


def decompress(read: Read, budget: Budget) -> Iterator[bytes]:
    """The content of the frames that `read` returns, in pieces.

    Raises: Refused(bundle_malformed, limit_exceeded).
    """
    magic = _take(read, 4)
    while magic:
        if magic != _MAGIC:
            raise malformed_bundle("it is not compressed with zstd, or something follows its end")
        budget.frame()
        yield from _frame(read, budget)
        magic = _take(read, 4, or_end=True)


def _take(read: Read, size: int, *, or_end: bool = False) -> bytes:
    return read_exactly(read, size, name="its compressed data", or_end=or_end)


def _frame(read: Read, budget: Budget) -> Iterator[bytes]:
    header, checksum = _header(read)
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_MOST).decompressobj()
    try:
        yield decompressor.decompress(_MAGIC + header)
        last = 0
        while not last:
            budget.block()
            head = _take(read, 3)
            number = int.from_bytes(head, "little")
            last, kind, size = number & 1, number >> 1 & 3, number >> 3
            if kind == _RESERVED or size > _BLOCK_MOST:
                raise malformed_bundle("its compressed data is damaged")
            block = _take(read, 1 if kind == _RLE else size)
            content = decompressor.decompress(head + block + _take(read, 4 if last and checksum else 0))
            budget.unfolded(len(content))
            yield content
    except zstandard.ZstdError as error:
        raise malformed_bundle(f"its compressed data is damaged ({error})") from error
    if not decompressor.eof:
        raise malformed_bundle("its compressed data is damaged")


def _header(read: Read) -> tuple[bytes, bool]:
    """A frame's header after its magic number, and whether a checksum follows the frame."""
    descriptor = _take(read, 1)
    flags = descriptor[0]
    single, checksum, dictionary = flags >> 5 & 1, bool(flags >> 2 & 1), flags & 3
    if flags >> 3 & 1 or dictionary:
        raise malformed_bundle("its compression needs more than the bundle itself")
    window = _take(read, 0 if single else 1)
    content = _take(read, (single, 2, 4, 8)[flags >> 6])
    if single:
        needed = int.from_bytes(content, "little") + (256 if len(content) == 2 else 0)
    else:
        base = 1 << (10 + (window[0] >> 3))
        needed = base + base // 8 * (window[0] & 7)
    if needed > WINDOW_MOST:
        raise malformed_bundle(
            f"decompressing it would take {needed} bytes of memory; the limit is {WINDOW_MOST} "
            "(zstd up to level 19, without --long, stays within that)"
        )
    return descriptor + window + content, checksum
