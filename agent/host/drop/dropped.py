"""Reading a drop: what a bundle file and a plain folder have in common.

Invariant: a drop can be checked as often as is wanted, and is never changed. A successful check is only a reason
to begin a deployment, which copies and hashes everything itself. Everything here blocks.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Protocol

from agent.host.drop.directory import Stamp
from agent.host.ports import Bundle
from pusher.wire import Code, Entry, Failed, Manifest, Refused

_SLICE = 1024 * 1024


class Dropped(Protocol):
    """A drop that can be read. `manifest_apart`: manifest and signature are two files, which arrive in any
    order."""

    name: str
    manifest_apart: bool

    def stamps(self) -> tuple[Stamp | None, ...]:
        """The stamps of the files that hold manifest, signature and index. Equal ones make a check unnecessary."""
        ...

    def open(self) -> "Opened":
        """Open what is there now. Raises: Missing."""
        ...

    def forget(self) -> None:
        """Check everything again next time, also what was checked successfully."""
        ...


class Opened(Protocol):
    """A drop that is being read. Close it."""

    def bundle(self) -> Bundle:
        """Its bundle, from the start, as often as is wanted."""
        ...

    def check(self, bundle: Bundle, entries: Iterable[Entry]) -> None:
        """Compare everything with the index. `entries` reads from `bundle`, and checks each entry as it is read.

        Raises: Missing, for the first file that is not there as it was signed; Refused(bundle_malformed,
        content_mismatch, and what `entries` raises).
        """
        ...

    def close(self) -> None: ...


def index_holds(bundle: Bundle, manifest: Manifest) -> bool:
    """Whether a bundle, of which nothing was read yet, has the index that the verified manifest names."""
    digest = hashlib.sha256()
    try:
        bundle.signed_manifest()
        bundle.verified(manifest)
        for line in bundle.index(manifest.index_size):
            digest.update(line)
    except Refused:
        return False
    return digest.hexdigest() == manifest.index_sha256


class Reader:
    """Reads an open file from its start, at most `size` bytes."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._left = size
        self._at = 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes, or fewer; none at the end. Raises: Failed(upload_broken)."""
        try:
            part = os.pread(self._descriptor, min(size, self._left), self._at)
        except OSError as error:
            why = error.strerror or str(error)
            raise Failed(Code.UPLOAD_BROKEN, "A dropped file cannot be read", why=why) from error
        self._at += len(part)
        self._left -= len(part)
        return part

    def chunks(self) -> Iterator[bytes]:
        """All bytes, in pieces."""
        while chunk := self.read(_SLICE):
            yield chunk


def changed(path: str) -> Refused:
    """The refusal of a file that was checked successfully and is a different one now."""
    return Refused(
        Code.CONTENT_MISMATCH,
        f"The file {path} is not the one that was signed",
        why="it was changed after everything had arrived",
        hint="The drop is tried again when everything is there as it was signed",
    )
