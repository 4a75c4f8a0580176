"""A drop directory: the folder belongs to the agent, its contents belong to others.

Invariant: only regular files and folders are opened, one name at a time and never through a link; nothing is
linked or moved out of the directory. Anything in it may change at any moment, so its bytes are read as of unknown
origin. Everything here blocks.
"""

import errno
import json
import os
import stat
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, Self

from agent.core.drop import result_name
from agent.host.storage.disk import Disk
from pusher.wire import DROP_MARK, Code, Failed, Problem, Refused, drop_mark

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_RESULT_MOST = 4 * 1024 * 1024
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class Missing(Refused):
    """A part of a drop is not there, or not as it was signed. `what` says what is needed, in words that follow
    "waiting for"; `path` is its path in the drop directory."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(Code.BUNDLE_INCOMPLETE, what)
        self.path = path


class Stamp(NamedTuple):
    """Changes when the file does. A hint: equal stamps make a check unnecessary, and prove nothing."""

    kind: int
    device: int
    inode: int
    size: int
    modified: int
    changed: int
    owner: int = -1


class OpenDirectory:
    """One app's drop directory, open; `descriptor` is its own. Names are names in it, never paths.

    Raises: OSError, like every method here unless noted.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self._disk = disk
        self.descriptor = os.open(path, _FOLDER)

    def close(self) -> None:
        """Close it. What is open inside stays open."""
        os.close(self.descriptor)

    def is_current(self) -> bool:
        """Whether it is still the one at its path: it can be removed or replaced while it is open."""
        try:
            return os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self.descriptor))
        except OSError:
            return False

    def names(self) -> list[str]:
        """All names in it."""
        return os.listdir(self.descriptor)

    def stamp(self, name: str) -> Stamp | None:
        """The stamp of the file with this name, or None without one. Nothing is opened."""
        try:
            state = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return stamp_of(state)

    def result(self, name: str) -> dict[str, Any]:
        """The result beside a drop as it is there, written by anyone. Empty if there is none that can be read."""
        try:
            file = open_regular(result_name(name), self.descriptor)
            try:
                document = json.loads(os.pread(file, _RESULT_MOST, 0))
            finally:
                os.close(file)
        except (OSError, Problem, ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    def write_result(self, name: str, document: dict[str, Any]) -> None:
        """Write the result of a drop: readers see the old one or the new one. Raises: Failed.

        Not flushed: the journal has everything that matters, and an agent that starts writes the result again.
        """
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        fresh = f"{result_name(name)}.new"
        self._disk.unlink(fresh, folder=self.descriptor, op="drop.unlink")
        content = [text.encode(errors="backslashreplace")]
        self._disk.create(fresh, content, folder=self.descriptor, mode=0o640, op="drop.result")
        self._disk.replace(fresh, result_name(name), folder=self.descriptor, op="drop.rename")

    def mark(self, app: str) -> None:
        """Write the mark without which `pusher drop` deletes nothing here. Raises: Failed; OSError."""
        wanted, fresh = drop_mark(app), f"{DROP_MARK}.new"
        with suppress(OSError, Problem):
            file = open_regular(DROP_MARK, self.descriptor)
            try:
                if os.read(file, len(wanted) + 1) == wanted and os.fstat(file).st_uid == os.geteuid():
                    return
            finally:
                os.close(file)
        self._disk.unlink(fresh, folder=self.descriptor, op="drop.unlink")
        self._disk.create(fresh, [wanted], folder=self.descriptor, mode=0o644, op="drop.mark")
        self._disk.replace(fresh, DROP_MARK, folder=self.descriptor, op="drop.rename")

    def remove(self, name: str, *, only: Stamp | None = None) -> None:
        """Remove a file; with `only`, not if its stamp is another by now. Raises: Failed."""
        if only is None or self.stamp(name) == only:
            self._disk.unlink(name, folder=self.descriptor, op="drop.remove")


class Chain:
    """Open folders, from `top` down to the one asked for last. Each is opened in the one above it."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._open: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close(0)

    def folder(self, path: str) -> int:
        """The folder at a relative path. Valid until the next call. Raises: OSError, also for a link."""
        names = path.split("/") if path else []
        same = sum(1 for _ in takewhile(lambda pair: pair[0][0] == pair[1], zip(self._open, names, strict=False)))
        self._close(same)
        for name in names[same:]:
            self._open.append((name, os.open(name, _FOLDER, dir_fd=self._last)))
        return self._last

    def folders(self, path: str) -> list[int]:
        """The top and every folder on the way to `path`, as far as they exist. Valid until the next call."""
        with suppress(OSError):
            self.folder(path)
        return [self._top, *(descriptor for _, descriptor in self._open)]

    @property
    def _last(self) -> int:
        return self._open[-1][1] if self._open else self._top

    def _close(self, keep: int) -> None:
        while len(self._open) > keep:
            os.close(self._open.pop()[1])


def stamp_of(state: os.stat_result) -> Stamp:
    """The stamp of a file, from its `stat` or `fstat`."""
    kind = stat.S_IFMT(state.st_mode)
    return Stamp(
        kind, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_uid
    )


def open_regular(name: str, folder: int, *, shown: str = "") -> int:
    """A descriptor of the regular file `name` in an open folder. `shown` is its name for people.

    Raises: Missing, if it is anything else or may not be read; Failed, as `unreadable`.
    """
    shown = shown or name
    try:
        # Before it is opened, because opening a device may already do something.
        _check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False), shown)
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        raise unreadable(shown, error) from error
    try:
        _check_regular(os.fstat(descriptor), shown)
    except Missing:
        os.close(descriptor)
        raise
    return descriptor


def unreadable(shown: str, error: OSError) -> Missing | Failed:
    """What an error of the operating system means for a part of a drop; `shown` is its name for people.

    Missing, if a later arrival can mend it. Failed(upload_broken), if this host has a fault.
    """
    match error.errno:
        case errno.ENOENT:
            return Missing(shown, f"{shown}, which is not there")
        case errno.EACCES | errno.EPERM:
            return Missing(shown, f"permission to read {shown} (chmod o+r, and o+rx for the folders above)")
        case errno.ELOOP | errno.ENOTDIR:
            return Missing(shown, f"{shown} (something else is in its place, or in a folder's above it)")
    return Failed(Code.UPLOAD_BROKEN, f"{shown} cannot be read", why=error.strerror or str(error))


def _check_regular(state: os.stat_result, shown: str) -> None:
    kind = stat.S_IFMT(state.st_mode)
    if kind != stat.S_IFREG:
        raise Missing(shown, f"a regular file {shown} (there is {_KINDS.get(kind, 'something else')})")
