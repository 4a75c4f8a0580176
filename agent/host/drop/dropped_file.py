"""A bundle file in a drop directory.

Invariant: an open file stays the same file, whatever takes its name. A successful check is only a reason to begin
a deployment, which hashes everything again. Everything here blocks.
"""

import hashlib
import os
from collections.abc import Iterable

from agent.host.bundle.tar import TarBundle
from agent.host.drop.directory import OpenDirectory, Stamp, open_regular, stamp_of
from agent.host.drop.dropped import Opened, Reader, changed
from agent.host.ports import Bundle
from pusher.wire import Entry, File
from pusher.wire.problems import malformed_bundle as malformed


class DroppedFile:
    """A bundle file. While it does not change it is read to its end once, however long its deployment waits."""

    manifest_apart = False

    def __init__(self, directory: OpenDirectory, name: str) -> None:
        self.name = name
        self._directory = directory
        self._checked: Stamp | None = None

    def stamps(self) -> tuple[Stamp | None, ...]:
        return (self._directory.stamp(self.name),)

    def open(self) -> Opened:
        return _OpenedFile(self, open_regular(self.name, self._directory.descriptor))

    def forget(self) -> None:
        self._checked = None

    def is_checked(self, stamp: Stamp) -> bool:
        """Whether the file with this stamp was checked successfully."""
        return self._checked == stamp

    def remember(self, stamp: Stamp) -> None:
        """Note a successful check; `stamp` was taken before it."""
        self._checked = stamp


class _OpenedFile:
    """A bundle file, open."""

    def __init__(self, dropped: DroppedFile, descriptor: int) -> None:
        self._dropped = dropped
        self._descriptor = descriptor
        # The size as it is now: a file that grows as fast as it is read would have no end.
        self._stamp = stamp_of(os.fstat(descriptor))
        self._size = self._stamp.size

    def bundle(self) -> Bundle:
        return TarBundle(Reader(self._descriptor, self._size).read)

    def check(self, bundle: Bundle, entries: Iterable[Entry]) -> None:
        if self._dropped.is_checked(self._stamp):
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
        self._dropped.remember(self._stamp)

    def close(self) -> None:
        os.close(self._descriptor)
