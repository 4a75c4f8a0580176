"""A file that arrives in parts, over several attempts and starts of the agent.

Invariant: what is there is only a beginning until the whole file has its digest. Nothing is flushed: after a power
cut the digest decides, and the file is fetched once more. All methods block.
"""

import hashlib
import os
from pathlib import Path

from agent.host.storage.errors import explained

_PIECE = 1024 * 1024
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Partial:
    """The file `path`, which is to have `size` bytes. Raises: Failed(disk_full, disk_error), from every method."""

    def __init__(self, path: Path, *, size: int) -> None:
        self.path = path
        self.size = size

    def arrived(self) -> int:
        """How many bytes are there. A file that is longer than it should be is removed."""
        with explained("read", self.path):
            try:
                found = self.path.lstat().st_size
            except FileNotFoundError:
                return 0
        if found > self.size:
            self.remove()
            return 0
        return found

    def append(self, piece: bytes, *, at: int) -> None:
        """Add bytes that belong at this place; 0: the file begins anew."""
        with explained("write", self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if at == 0:
                self.path.unlink(missing_ok=True)
            descriptor = os.open(self.path, _APPEND, 0o640)
            with open(descriptor, "ab") as file:
                os.ftruncate(descriptor, min(at, os.fstat(descriptor).st_size))
                file.write(piece)

    def whole(self, sha256: str) -> bool:
        """Whether all bytes are there and have this digest."""
        digest = hashlib.sha256()
        with explained("read", self.path), open(self.path, "rb") as file:
            if os.fstat(file.fileno()).st_size != self.size:
                return False
            while piece := file.read(_PIECE):
                digest.update(piece)
        return digest.hexdigest() == sha256

    def remove(self) -> None:
        """Remove it, if it is there."""
        with explained("remove", self.path):
            self.path.unlink(missing_ok=True)


def keep_only(folder: Path, names: frozenset[str]) -> None:
    """Remove every file in a folder but those of these names. Blocking. Raises: Failed."""
    with explained("clear", folder):
        try:
            found = list(folder.iterdir())
        except FileNotFoundError:
            return
        for path in found:
            if path.name not in names:
                path.unlink(missing_ok=True)
