"""The content of the releases on disk: where a digest lies, to save a transfer; and what differs from the index.

Invariant: this only reads. A stored index is a hint where content lies; a copy is hashed as it is made.
"""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.core.layout import metadata_folder
from agent.host.releases.built import built_index
from pusher.wire import (
    INDEX_NAME,
    MANIFEST_NAME,
    RESERVED_NAMES,
    Directory,
    Entry,
    Link,
    Manifest,
    WireError,
    is_placeholder,
    parse_index_line,
)

# The members of a file's line in their canonical order; ten times as fast as parsing the line as JSON.
_LINE = re.compile(rb'"path":("(?:[^"\\\n]|\\.)*+"),"sha256":"([0-9a-f]{64})"')

_SLICE = 1024 * 1024


class Content:
    """Where content lies in `releases`, the newest first, by its SHA-256 (hex). Everything here blocks.

    With `wanted`, only these digests are looked for. A release without a readable index holds nothing.
    """

    def __init__(self, releases: Iterable[Path], *, wanted: Collection[str] | None = None) -> None:
        self._releases = tuple(releases)
        self._wanted = wanted
        self._first: list[dict[str, str]] = []
        self._all: dict[str, list[str]] | None = None
        lacking = None if wanted is None else set(wanted)
        for release in self._releases:
            here: dict[str, str] = {}
            for digest, path in _listed(release, lacking):
                here.setdefault(digest, path)
            self._first.append(here)
            if lacking is not None:
                lacking -= here.keys()

    def __contains__(self, digest: object) -> bool:
        return any(digest in one for one in self._first)

    def copies(self, digest: str) -> Iterator[str]:
        """The path of every file that should have the content, the newest release's first."""
        first = None
        for release, listed in zip(self._releases, self._first, strict=True):
            if digest in listed:
                first = f"{release}/{listed[digest]}"
                yield first
                break
        if first is not None:
            yield from (path for path in self._everywhere().get(digest, ()) if path != first)

    def _everywhere(self) -> dict[str, list[str]]:
        """All paths of all content. Built only when the first path turned out to be damaged."""
        if self._all is None:
            everywhere: dict[str, list[str]] = {}
            for release in self._releases:
                for digest, path in _listed(release, self._wanted):
                    everywhere.setdefault(digest, []).append(f"{release}/{path}")
            self._all = everywhere
        return self._all


def stored_index(release: Path) -> Iterator[bytes]:
    """The lines of the index in a release's metadata folder; none if it cannot be read. Blocking."""
    try:
        with open(metadata_folder(release) / INDEX_NAME, "rb") as lines:
            yield from lines
    except OSError:
        return


def pieces(release: Path) -> Iterator[bytes]:
    """The index of a release, in pieces of whole lines. Blocking. Raises: OSError, at once, if there is none."""
    index = open(metadata_folder(release) / INDEX_NAME, "rb")  # noqa: SIM115 - closed when it is read to its end

    def read() -> Iterator[bytes]:
        with index:
            while lines := index.read(_SLICE) + index.readline():
                yield lines

    return read()


def intact(release: Path, *, shared: Collection[str] = (), extra: bool = True) -> str:
    """The first difference between a release and what was signed, in words; empty if there is none. Blocking.

    Compares content, mode and kind of everything listed, in the order of the index. Then, with `extra`, it looks
    for files that are not listed; the agent's own names and the app's `shared` paths are ignored.
    """
    listed: set[str] = set()
    digest = hashlib.sha256()
    try:
        manifest = Manifest.from_bytes((metadata_folder(release) / MANIFEST_NAME).read_bytes())
        for line in stored_index(release):
            digest.update(line)
            entry = parse_index_line(line)
            listed.add(entry.path)
            if difference := _difference(release, entry):
                if is_placeholder(entry) and _gave_way(release, entry):
                    continue
                return f"{entry.path} {difference}"
        for line in built_index(release):
            entry = parse_index_line(line)
            listed.add(entry.path)
            if difference := _difference(release, entry):
                return f"{entry.path}, which its build steps made, {difference}"
    except (OSError, WireError) as error:
        return f"its signed manifest is damaged: {error}"
    if digest.hexdigest() != manifest.index_sha256:
        return "its signed manifest is damaged: the index is not the one that was signed"
    if not extra:
        return ""
    others = (one for one in _leaves(release, "", ignored={*RESERVED_NAMES, *shared}) if one not in listed)
    return next((f"{other} does not belong to it" for other in others), "")


@contextmanager
def opened(path: Path | str) -> Iterator[int]:
    """A descriptor of a regular file, for reading. Never waits, whatever else lies there.

    Raises: OSError, with ELOOP for a link and EINVAL for anything else that is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def _listed(release: Path, wanted: Collection[str] | None) -> Iterator[tuple[str, str]]:
    """Digest and path of the files in a release's index; with `wanted`, only of these digests."""
    if wanted is not None and not wanted:
        return
    for lines in _slices(release):
        for name, found in _LINE.findall(lines):
            digest = found.decode()
            if wanted is None or digest in wanted:
                try:
                    path = json.loads(name) if b"\\" in name else name[1:-1].decode()
                except ValueError:
                    continue
                yield digest, path


def _slices(release: Path) -> Iterator[bytes]:
    """As `pieces`, but nothing where there is no index."""
    try:
        yield from pieces(release)
    except OSError:
        return


def _difference(release: Path, entry: Entry) -> str:
    path = f"{release}/{entry.path}"
    try:
        if isinstance(entry, Link):
            same = os.readlink(path) == entry.target
        elif isinstance(entry, Directory):
            same = stat.S_ISDIR(os.lstat(path).st_mode)
        else:
            with opened(path) as descriptor:
                state = os.fstat(descriptor)
                same = state.st_size == entry.size and stat.S_IMODE(state.st_mode) == entry.mode
                same = same and _sha256(descriptor, entry.size) == entry.sha256
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ELOOP, errno.ENOTDIR):
            return "has changed"
        return f"cannot be read: {error.strerror}"
    return "" if same else "has changed"


def _gave_way(release: Path, entry: Entry) -> bool:
    """Whether a link is where an entry that only keeps a folder was: the link of a shared path."""
    parts = entry.path.split("/")
    return any(os.path.islink(release.joinpath(*parts[:count])) for count in range(1, len(parts) + 1))


def _sha256(descriptor: int, size: int) -> str:
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, min(size + 1, _SLICE)):
        digest.update(chunk)
    return digest.hexdigest()


def _leaves(release: Path, folder: str, *, ignored: Collection[str]) -> Iterator[str]:
    """Every path beneath a release that is no folder, relative to it."""
    with os.scandir(release / folder) as found:
        inner = sorted((one.name, one.is_dir(follow_symlinks=False)) for one in found)
    for name, is_folder in inner:
        path = f"{folder}/{name}" if folder else name
        if path in ignored:
            continue
        if is_folder:
            yield from _leaves(release, path, ignored=ignored)
        else:
            yield path
