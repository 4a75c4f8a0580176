"""What went live before, as the one who sent it knows it: the digests of its files, by its manifest.

With these, a sender can tell what a host lacks without asking: the status of a host names the manifest of its live
release.

Invariant: this is a guess, never a proof. A host compares every bundle with the whole index, and says what it
lacks after all. Losing the folder costs a question.
"""

import contextlib
import os
from pathlib import Path

from pusher.wire import File, WireError
from pusher.wire.text import check_sha256

_DIGEST = 32  # bytes of a SHA-256
_KEPT = 64
"""So many manifests are remembered. One of 100,000 files takes 3 MB."""


class Sent:
    """The manifests that were sent from here, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def remember(self, manifest: str, files: tuple[File, ...]) -> None:
        """Remember the files of what went live with this manifest (its SHA-256). What cannot be kept is not."""
        digests = sorted({file.sha256 for file in files})
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            written = self._folder / f".{manifest}.{os.getpid()}"
            written.write_bytes(b"".join(map(bytes.fromhex, digests)))
            written.replace(self._folder / manifest)
            self._forget()

    def lacking(self, manifest: object, files: tuple[File, ...]) -> frozenset[str] | None:
        """The digests that a host lacks whose live release has this manifest, as it says; None if not known."""
        try:
            raw = (self._folder / check_sha256(manifest if isinstance(manifest, str) else "")).read_bytes()
        except (OSError, WireError):
            return None
        there = {raw[at : at + _DIGEST] for at in range(0, len(raw), _DIGEST)}
        return frozenset(file.sha256 for file in files if bytes.fromhex(file.sha256) not in there)

    def _forget(self) -> None:
        every = sorted(self._folder.iterdir(), key=lambda one: one.stat().st_mtime_ns, reverse=True)
        for one in every[_KEPT:]:
            one.unlink(missing_ok=True)
