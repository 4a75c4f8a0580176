"""A bundle's file that was dropped.

Invariant: what is open stays the same file, whatever comes to stand under its name. Everything here blocks.
"""

import hashlib
import os
from collections.abc import Iterable

from agent.host.dropbox import Dropbox, Stamp, open_regular
from agent.host.dropped import Opened, Reading, changed
from agent.host.frames import malformed
from agent.host.ports import Bundle
from agent.host.tarstream import TarBundle
from pusher.wire import Entry, File


class DroppedFile:
    """A bundle's file."""

    papers_apart = False

    def __init__(self, box: Dropbox, name: str) -> None:
        self.name = name
        self._box = box

    def stamps(self) -> tuple[Stamp | None, ...]:
        return (self._box.stamp(self.name),)

    def open(self) -> Opened:
        return _OpenedFile(open_regular(self.name, self._box.folder))

    def forget(self) -> None:
        return


class _OpenedFile:
    """A bundle's file, open: by another name or by none, it stays this one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # No more than there is now: one that grows as fast as it is read would have no end.
        self._size = os.fstat(descriptor).st_size

    def bundle(self) -> Bundle:
        return TarBundle(Reading(self._descriptor, self._size).read)

    def check(self, bundle: Bundle, entries: Iterable[Entry]) -> None:
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

    def close(self) -> None:
        os.close(self._descriptor)
