"""What was dropped, as bundles: a bundle's file, or a plain folder with its papers beside it.

Invariant: it can be held against what was signed as often as is wanted, and changes nothing; what was found well
is only a reason to begin a deployment, which copies and hashes all of it itself. Everything here blocks.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Protocol

from agent.host.dropbox import Chain, Dropbox, Lacking, Stamp, lacking, open_regular
from agent.host.frames import malformed
from agent.host.ports import Bundle
from agent.host.tarstream import TarBundle
from pusher.wire import (
    DROP_FOLDER,
    DROP_INDEX,
    DROP_MANIFEST,
    DROP_SIGNATURE,
    MANIFEST_BYTES,
    SIGNATURE_BYTES,
    Code,
    Entry,
    Failed,
    File,
    Link,
    Manifest,
    Refused,
    WireError,
    check_path,
    parse_index_line,
)

_SLICE = 1024 * 1024
_LINE_MOST = 32 * 1024


class Dropped(Protocol):
    """A landing that can be read. `papers_apart`: its manifest and signature are two files, in any order."""

    name: str
    papers_apart: bool

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


class DroppedFile:
    """A bundle's file."""

    papers_apart = False

    def __init__(self, box: Dropbox, name: str) -> None:
        self.name = name
        self._box = box

    def stamps(self) -> tuple[Stamp | None, ...]:
        return (self._box.stamp(self.name),)

    def open(self) -> "Opened":
        return _OpenedFile(open_regular(self.name, self._box.folder))

    def forget(self) -> None:
        return


class DroppedFolder:
    """The folder `tree/` with `tree.manifest.json`, `tree.manifest.json.sig` and `tree.index.jsonl` beside it.

    How far it was found well is remembered, so that a file that arrives does not mean looking at all those that
    arrived before it: first at all sizes, then at all digests. `forget` after the papers have changed.
    """

    name = DROP_FOLDER
    papers_apart = True

    def __init__(self, box: Dropbox) -> None:
        self._box = box
        self._judged = False
        self._sized = 0
        self._hashed = 0

    def stamps(self) -> tuple[Stamp | None, ...]:
        return tuple(self._box.stamp(name) for name in (DROP_MANIFEST, DROP_SIGNATURE, DROP_INDEX))

    def open(self) -> "Opened":
        return self

    def close(self) -> None:
        return

    def bundle(self) -> Bundle:
        return _FolderBundle(self._box)

    def forget(self) -> None:
        self._judged, self._sized, self._hashed = False, 0, 0

    def check(self, bundle: Bundle, entries: Iterable[Entry]) -> None:
        """As in the port, but going on where the last call stopped."""
        if not self._judged:
            for _ in entries:
                pass
            self._judged = True
        with Chain(self._box.folder) as chain:
            for at, entry in self._entries(self._sized):
                self._sized = at
                _check(entry, chain, content=False)
            for at, entry in self._entries(self._hashed):
                self._hashed = at
                _check(entry, chain, content=True)

    def _entries(self, start: int) -> Iterator[tuple[int, Entry]]:
        """Where in the index each line begins, from `start` on, with its entry. Raises: Lacking."""
        descriptor = open_regular(DROP_INDEX, self._box.folder)
        try:
            with os.fdopen(descriptor, "rb") as lines:
                lines.seek(start)
                while line := lines.readline(_LINE_MOST):
                    yield start, _entry(line)
                    start += len(line)
        except OSError as error:
            raise lacking(DROP_INDEX, error) from error


def index_holds(bundle: Bundle, manifest: Manifest) -> bool:
    """Whether the index of a bundle, of which nothing was read yet, is the one that its manifest names."""
    digest = hashlib.sha256()
    try:
        bundle.papers()
        for line in bundle.index(manifest.index_size):
            digest.update(line)
    except Refused:
        return False
    return digest.hexdigest() == manifest.index_sha256


class _OpenedFile:
    """A bundle's file, open: by another name or by none, it stays this one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # No more than there is now: one that grows as fast as it is read would have no end.
        self._size = os.fstat(descriptor).st_size

    def bundle(self) -> Bundle:
        return TarBundle(_Reading(self._descriptor, self._size).read)

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
                raise _changed(path)

    def close(self) -> None:
        os.close(self._descriptor)


class _FolderBundle:
    """The `Bundle` port over a dropped folder. The files of the index travelled, all of them."""

    def __init__(self, box: Dropbox) -> None:
        self._box = box
        self._lines: list[bytes] = []

    def papers(self) -> tuple[bytes, bytes]:
        return self._paper(DROP_MANIFEST, MANIFEST_BYTES), self._paper(DROP_SIGNATURE, SIGNATURE_BYTES)

    def index(self, size: int) -> Iterator[bytes]:
        """As in the port. Raises: Lacking, if it is another one that stands there."""
        descriptor = open_regular(DROP_INDEX, self._box.folder)
        try:
            with os.fdopen(descriptor, "rb") as lines:
                found = os.fstat(descriptor).st_size
                if found != size:
                    raise Lacking(DROP_INDEX, f"the {DROP_INDEX} that {DROP_MANIFEST} names, of {size} bytes "
                                              f"(there are {found})")  # fmt: skip
                while size and (line := lines.readline(size)):
                    size -= len(line)
                    self._lines.append(line)
                    yield line
        except OSError as error:
            raise lacking(DROP_INDEX, error) from error

    def files(self) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        with Chain(self._box.folder) as chain:
            for line in self._lines:
                entry = _entry(line)
                if isinstance(entry, Link):
                    continue
                try:
                    descriptor = open_regular(
                        entry.path.rpartition("/")[2], _folder(entry, chain), shown=_shown(entry)
                    )
                except Lacking as problem:
                    raise _changed(entry.path) from problem
                try:
                    size = os.fstat(descriptor).st_size
                    yield entry.path, size, _content(_Reading(descriptor, size))
                finally:
                    os.close(descriptor)

    def _paper(self, name: str, most: int) -> bytes:
        descriptor = open_regular(name, self._box.folder)
        try:
            reading = _Reading(descriptor, most + 1)
            content = b"".join(_content(reading))
        finally:
            os.close(descriptor)
        if len(content) > most:
            raise Lacking(name, f"a {name} of at most {most} bytes")
        return content


class _Reading:
    """Reads an open file from its start, at most `size` bytes."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._left = size
        self._at = 0

    def read(self, size: int) -> bytes:
        try:
            part = os.pread(self._descriptor, min(size, self._left), self._at)
        except OSError as error:
            why = error.strerror or str(error)
            raise Failed(Code.UPLOAD_BROKEN, "What was dropped cannot be read", why=why) from error
        self._at += len(part)
        self._left -= len(part)
        return part


def _content(reading: _Reading) -> Iterator[bytes]:
    while chunk := reading.read(_SLICE):
        yield chunk


def _entry(line: bytes) -> Entry:
    """An entry of an index that was judged. It may have been changed since: only its path matters here."""
    try:
        entry = parse_index_line(line)
        check_path(entry.path)
    except WireError as error:
        raise Lacking(DROP_INDEX, f"the {DROP_INDEX} that {DROP_MANIFEST} names ({error})") from error
    return entry


def _check(entry: Entry, chain: Chain, *, content: bool) -> None:
    """Hold what lies there against an entry: kind and size, with `content` all of it. Modes play no part: those
    of a release come from its index. Raises: Lacking."""
    shown, name, folder = _shown(entry), entry.path.rpartition("/")[2], _folder(entry, chain)
    if isinstance(entry, Link):
        try:
            target = os.readlink(name, dir_fd=folder)
        except OSError:
            target = ""
        if target != entry.target:
            raise Lacking(shown, f"the symbolic link {shown} -> {entry.target}")
        return
    if content:
        descriptor = open_regular(name, folder, shown=shown)
        try:
            digest = hashlib.sha256()
            for chunk in _content(_Reading(descriptor, entry.size + 1)):
                digest.update(chunk)
        finally:
            os.close(descriptor)
        if digest.hexdigest() != entry.sha256:
            raise Lacking(shown, f"{shown} as it was signed (its content is another)")
        return
    try:
        size = os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    except OSError as error:
        raise lacking(shown, error) from error
    if size != entry.size:
        raise Lacking(shown, f"{shown} of {entry.size} bytes (there are {size})")


def _folder(entry: Entry, chain: Chain) -> int:
    above = f"{DROP_FOLDER}/{entry.path}".rpartition("/")[0]
    try:
        return chain.folder(above)
    except OSError as error:
        raise lacking(_shown(entry), error) from error


def _shown(entry: Entry) -> str:
    return f"{DROP_FOLDER}/{entry.path}"


def _changed(path: str) -> Refused:
    return Refused(
        Code.CONTENT_MISMATCH,
        f"The file {path} is not the one that was signed",
        why="it was changed after all of it had been there",
        hint="It is tried again when all is there as it was signed",
    )
