"""What reading one bundle may cost: one budget for all doors, small until the signature holds.

Invariant: work is counted before it is done, and nothing is spent above the budget. Until the signature holds,
anyone could have sent the bundle, so there is enough for a manifest and a signature. Then the signed sizes decide:
no more work than a bundle of these sizes needs.

Why work is counted as well as bytes: an empty block of zstd costs three bytes of zeros, which a sparse file holds
without end, and a header of a tar compresses a thousandfold. Neither shows in the sizes.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pusher.wire import Code, Manifest, Refused

_KIB = 1024
_END_BYTES = 1024 * _KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How much of everything: bytes as they arrive, bytes of the tar, pieces of both formats, processor time."""

    compressed: int
    """Bytes."""
    unfolded: int
    """Bytes of the tar."""
    frames: int
    """Of zstd."""
    blocks: int
    """Of zstd."""
    headers: int
    """Of the tar, extended ones included."""
    processor_s: float
    """Seconds of the threads that read it."""


UNSIGNED = Allowance(
    compressed=512 * _KIB, unfolded=512 * _KIB, frames=64, blocks=1_024, headers=16, processor_s=0.5
)
"""Until the signature holds. A manifest and a signature have at most 64 KiB each, and a block of zstd 128 KiB."""


def signed_allowance(manifest: Manifest) -> Allowance:
    """What a bundle with a signed `manifest` may cost in all.

    Each file has a header, an extended header with its path, and padding. `zstd` makes small blocks where the
    content changes: one for a KiB is more than it makes in the mean. 2 MiB in a second is slower than any machine.
    """
    files = manifest.files
    content = manifest.index_size + manifest.unpacked_size
    unfolded = UNSIGNED.unfolded + _END_BYTES + content + files * 8 * _KIB
    return Allowance(
        compressed=unfolded + unfolded // 16,
        unfolded=unfolded,
        frames=UNSIGNED.frames + 2 * files + unfolded // (64 * _KIB),
        blocks=UNSIGNED.blocks + 4 * files + unfolded // _KIB,
        headers=UNSIGNED.headers + 3 * files,
        processor_s=1 + unfolded / (2 * _KIB * _KIB),
    )


class Budget:
    """What is left for one bundle. Each method spends something. Raises: Refused(limit_exceeded), from each.

    `processor` is the processor time of the calling thread, in seconds. A bundle is read by several threads, one
    after the other, so it is compared only within `running`.
    """

    def __init__(self, *, processor: Callable[[], float] = time.thread_time) -> None:
        self._processor = processor
        self._signed = False
        self._most = UNSIGNED
        self._compressed = self._unfolded = self._frames = self._blocks = self._headers = 0
        self._processor_s = 0.0
        self._began: float | None = None

    def extend(self, manifest: Manifest) -> None:
        """The signature of `manifest` holds: from now on its sizes decide."""
        self._signed = True
        self._most = signed_allowance(manifest)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the processor time of this thread while the context lasts. It does not nest."""
        self._began = self._processor()
        try:
            yield
        finally:
            self._processor_s += self._processor() - self._began
            self._began = None

    def compressed(self, size: int) -> None:
        """`size` bytes of the bundle are read."""
        self._compressed += size
        self._check("compressed bytes", self._compressed, self._most.compressed)

    def unfolded(self, size: int) -> None:
        """`size` bytes of the tar came out."""
        self._unfolded += size
        self._check("bytes when unpacked", self._unfolded, self._most.unfolded)

    def frame(self) -> None:
        """A frame of zstd begins."""
        self._frames += 1
        self._check("compressed frames", self._frames, self._most.frames)
        self._check_processor()

    def block(self) -> None:
        """A block of zstd begins."""
        self._blocks += 1
        self._check("compressed blocks", self._blocks, self._most.blocks)
        self._check_processor()

    def header(self) -> None:
        """A header of the tar begins."""
        self._headers += 1
        self._check("headers", self._headers, self._most.headers)
        self._check_processor()

    def _check_processor(self) -> None:
        if self._began is not None:
            used = self._processor_s + self._processor() - self._began
            self._check("ms of processor time", round(used * 1_000), round(self._most.processor_s * 1_000))

    def _check(self, unit: str, used: int, most: int) -> None:
        if used <= most:
            return
        until = "for the sizes that were signed" if self._signed else "until its signature is verified"
        raise Refused(
            Code.LIMIT_EXCEEDED,
            "The bundle costs more to read than this host allows",
            why=f"it has more than {most:,} {unit}, the limit {until}",
            hint="Pack it with `pusher pack`, and send that file unchanged",
        )
