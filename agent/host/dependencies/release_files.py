"""What decides about a release's venv, read from disk: its files, its `wheels/`, and the places that root named.

Invariant: no link is followed out of the release, and no more is read of a file than has a use.
"""

import hashlib
import os
from pathlib import Path

from agent.core.requirements.files import FILE_MOST

_Stamp = tuple[int, int, int, int, int]


def read_file(release: Path, name: str) -> bytes | None:
    """The content of a file of a release, cut a byte behind what may be used of it; None if there is none."""
    inside = release.resolve()
    try:
        path = (inside / name).resolve()
    except (OSError, RuntimeError):  # the latter for a loop of links
        return None
    if not path.is_relative_to(inside) or not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(FILE_MOST + 1)


def tree_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file beneath a folder, to any depth, by its path within; links to folders left out."""
    found = {}
    for above, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(above, name)
            if path.is_file():
                found[str(path.relative_to(folder))] = _digest(path)
    return found


class Places:
    """The folders of `find_links`, whose files are read again only when the kernel says that they were changed.

    By ctime as well: a time that nobody can set (inode(7)).
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[_Stamp, str]] = {}

    def digests(self, places: list[str]) -> dict[str, str]:
        """The SHA-256 of each file directly in one of these folders, by its path. Blocking."""
        found: dict[str, str] = {}
        for place in places:
            folder = place.removeprefix("file://")
            if not folder.startswith("/"):
                continue
            try:
                every = sorted(os.scandir(folder), key=lambda one: one.name)
            except OSError:
                continue  # uv says so, if it matters
            for one in every:
                if one.is_file():
                    found[one.path] = self._digest(one)
        self._known = {path: known for path, known in self._known.items() if path in found}
        return found

    def _digest(self, entry: "os.DirEntry[str]") -> str:
        stat = entry.stat()
        stamp = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        known = self._known.get(entry.path)
        if known is None or known[0] != stamp:
            self._known[entry.path] = known = (stamp, _digest(Path(entry.path)))
        return known[1]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
