"""A bundle's file that was dropped.

Invariant: what is open stays the same file, whatever comes to stand under its name. That it was found well before
is only a reason to begin a deployment, which hashes all of it. Everything here blocks.
"""

import hashlib
import os
from collections.abc import Iterable

from agent.host.bundle.tar import TarBundle
from agent.host.drop.folder import Dropbox, Stamp, open_regular, stamp_of
from agent.host.drop.upload import Opened, Reading, changed
from agent.host.ports import Bundle
from pusher.wire import Entry, File
from pusher.wire.problems import malformed_bundle as malformed


class DroppedFile:
    """A bundle's file. While it does not change it is read to its end once, however long its deployment waits."""

    manifest_apart = False

    def __init__(self, box: Dropbox, name: str) -> None:
        self.name = name
        self._box = box
        self._well: Stamp | None = None

    def stamps(self) -> tuple[Stamp | None, ...]:
        return (self._box.stamp(self.name),)

    def open(self) -> Opened:
        return _OpenedFile(self, open_regular(self.name, self._box.folder))

    def forget(self) -> None:
        self._well = None

    def well(self, stamp: Stamp) -> bool:
        """Whether what had this stamp was found well."""
        return self._well == stamp

    def found_well(self, stamp: Stamp) -> None:
        """Remember that; `stamp` is of before it was looked at."""
        self._well = stamp


class _OpenedFile:
    """A bundle's file, open: by another name or by none, it stays this one."""

    def __init__(self, dropped: DroppedFile, descriptor: int) -> None:
        self._dropped = dropped
        self._descriptor = descriptor
        # No more than there is now: one that grows as fast as it is read would have no end.
        self._stamp = stamp_of(os.fstat(descriptor))
        self._size = self._stamp.size

    def bundle(self) -> Bundle:
        return TarBundle(Reading(self._descriptor, self._size).read)

    def check(self, bundle: Bundle, entries: Iterable[Entry]) -> None:
        if self._dropped.well(self._stamp):
            return
        files = {entry.path: entry for entry in entries if isinstance(entry, File)}
        for path, size, content in bundle.files():
            file = files.get(path)
            if file is None or size != file.size:
                raise malformed(f"it contains {path[:200]!r} of {size} bytes, which is not what its index lists")
            digest = hashlib.sha256()
            for chunk in content:
                digest.update(chunk)
            if digest.hexdigest() != file.sha256:
                raise changed(path)
        self._dropped.found_well(self._stamp)

    def close(self) -> None:
        os.close(self._descriptor)
