"""A drop directory: a folder that belongs to the agent, and whose contents belong to others.

Invariant: nothing in it is opened by more than one name at a time, through a link, or if it is no regular file;
nothing is linked or moved out of it. What stands there now need not stand there a moment later, so whatever is
read is read as bytes of unknown origin. Everything here blocks.
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
from pusher.wire import Code, Failed, Problem, Refused

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


class Lacking(Refused):
    """Something of a landing is not there, or not as it was signed. `what` says what is needed, in words that
    follow "waiting for"; `path` is its name in the drop directory."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(Code.BUNDLE_INCOMPLETE, what)
        self.path = path


class Stamp(NamedTuple):
    """What changes when a file does. A hint: equal stamps spare a look, they prove nothing."""

    kind: int
    device: int
    inode: int
    size: int
    modified: int
    changed: int


class Dropbox:
    """One app's drop directory, open. `folder` is its descriptor; names are names in it, never paths.

    Raises: OSError, from every method that says nothing else.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self._disk = disk
        self.folder = os.open(path, _FOLDER)

    def close(self) -> None:
        """Look at it no more."""
        os.close(self.folder)

    def names(self) -> list[str]:
        """Everything that lies in it."""
        return os.listdir(self.folder)

    def stamp(self, name: str) -> Stamp | None:
        """What stands there under a name, if anything does; nothing is opened."""
        try:
            state = os.stat(name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return stamp_of(state)

    def result(self, name: str) -> dict[str, Any]:
        """The result beside a landing as it stands there: by whomever it was written. Empty if there is none."""
        try:
            file = open_regular(result_name(name), self.folder)
            try:
                document = json.loads(os.pread(file, _RESULT_MOST, 0))
            finally:
                os.close(file)
        except (OSError, Problem, ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    def write_result(self, name: str, document: dict[str, Any]) -> None:
        """Say what became of a landing: at any moment the old words or the new ones. Raises: Failed.

        Not flushed: what matters stands in the journal, and an agent that starts writes it again.
        """
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        fresh = f"{result_name(name)}.new"
        self._disk.unlink(fresh, folder=self.folder, op="drop.unlink")
        content = [text.encode(errors="backslashreplace")]
        self._disk.create(fresh, content, folder=self.folder, mode=0o640, op="drop.result")
        self._disk.replace(fresh, result_name(name), folder=self.folder, op="drop.rename")

    def remove(self, name: str, *, only: Stamp | None = None) -> None:
        """Take a file away; one that is not `only` (as it was looked at) stays. Raises: Failed."""
        if only is None or self.stamp(name) == only:
            self._disk.unlink(name, folder=self.folder, op="drop.remove")


class Chain:
    """The folders from an open one down to the one asked for last, each opened in the one above it."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._open: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close(0)

    def folder(self, path: str) -> int:
        """The folder at a relative path; good until the next call. Raises: OSError, also for a link."""
        names = path.split("/") if path else []
        same = sum(1 for _ in takewhile(lambda pair: pair[0][0] == pair[1], zip(self._open, names, strict=False)))
        self._close(same)
        for name in names[same:]:
            self._open.append((name, os.open(name, _FOLDER, dir_fd=self._last)))
        return self._last

    def folders(self, path: str) -> list[int]:
        """The open one and every folder on the way to `path`, as far as there are any."""
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
    """The stamp of a file, from what `stat` or `fstat` says."""
    kind = stat.S_IFMT(state.st_mode)
    return Stamp(kind, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def open_regular(name: str, folder: int, *, shown: str = "") -> int:
    """A descriptor of the regular file `name` in an open folder; `shown` is its name for people.

    Raises: Lacking, for anything else and for what may not be read; Failed, as `lacking`.
    """
    shown = shown or name
    try:
        # To open a device may already do something.
        _check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False), shown)
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        raise lacking(shown, error) from error
    try:
        _check_regular(os.fstat(descriptor), shown)
    except Lacking:
        os.close(descriptor)
        raise
    return descriptor


def lacking(shown: str, error: OSError) -> Lacking | Failed:
    """What the operating system's error about something of a landing means for whoever waits for it.

    Failed(upload_broken), if it is this host that has to be mended.
    """
    match error.errno:
        case errno.ENOENT:
            return Lacking(shown, f"{shown}, which is not there")
        case errno.EACCES | errno.EPERM:
            return Lacking(shown, f"leave to read {shown} (chmod o+r, and o+rx for the folders above)")
        case errno.ELOOP | errno.ENOTDIR:
            return Lacking(shown, f"{shown}, in whose place, or above it, there is something else")
    return Failed(Code.UPLOAD_BROKEN, f"{shown} cannot be read", why=error.strerror or str(error))


def _check_regular(state: os.stat_result, shown: str) -> None:
    kind = stat.S_IFMT(state.st_mode)
    if kind != stat.S_IFREG:
        raise Lacking(shown, f"a regular file {shown} (there is {_KINDS.get(kind, 'something else')})")
