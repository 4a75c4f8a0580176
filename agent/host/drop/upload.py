"""What was dropped, as it is read: what a bundle's file and a plain folder have in common.

Invariant: it can be held against what was signed as often as is wanted, and changes nothing; what was found well
is only a reason to begin a deployment, which copies and hashes all of it itself. Everything here blocks.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Protocol

from agent.host.drop.folder import Stamp
from agent.host.ports import Bundle
from pusher.wire import Code, Entry, Failed, Manifest, Refused

_SLICE = 1024 * 1024


class Dropped(Protocol):
    """A landing that can be read. `manifest_apart`: its manifest and signature are two files, in any order."""

    name: str
    manifest_apart: bool

    def stamps(self) -> tuple[Stamp | None, ...]:
        """What its papers are read from; equal ones spare a look."""
        ...

    def open(self) -> "Opened":
        """What stands there now, to be read. Raises: Lacking."""
        ...

    def forget(self) -> None:
        """Whatever was found well is to be looked at once more."""
        ...


class Opened(Protocol):
    """A landing that is being read. To be closed."""

    def bundle(self) -> Bundle:
        """It, from its start; as often as is wanted."""
        ...

    def check(self, bundle: Bundle, entries: Iterable[Entry]) -> None:
        """Hold everything against the index. `entries` are read from `bundle`, and judge it as they are read.

        Raises: Lacking, for the first thing that is not there as it was signed; Refused(bundle_malformed,
        content_mismatch, and what `entries` raise).
        """
        ...

    def close(self) -> None: ...


def index_holds(bundle: Bundle, manifest: Manifest) -> bool:
    """Whether the index of a bundle, of which nothing was read yet, is the one that its manifest names."""
    digest = hashlib.sha256()
    try:
        bundle.signed_manifest()
        for line in bundle.index(manifest.index_size):
            digest.update(line)
    except Refused:
        return False
    return digest.hexdigest() == manifest.index_sha256


class Reading:
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
            raise Failed(Code.UPLOAD_BROKEN, "What was dropped cannot be read", why=why) from error
        self._at += len(part)
        self._left -= len(part)
        return part

    def chunks(self) -> Iterator[bytes]:
        """All of it."""
        while chunk := self.read(_SLICE):
            yield chunk


def changed(path: str) -> Refused:
    """What a file is refused with that was found well before, and is another now."""
    return Refused(
        Code.CONTENT_MISMATCH,
        f"The file {path} is not the one that was signed",
        why="it was changed after all of it had been there",
        hint="It is tried again when all is there as it was signed",
    )
