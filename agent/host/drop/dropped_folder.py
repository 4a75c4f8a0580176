"""A plain folder in a drop directory, with its signed manifest beside it.

Invariant: inside the folder, only what the index names is opened, and never through a link. Everything here
blocks.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator

from agent.host.drop.directory import Chain, Missing, OpenDirectory, Stamp, open_regular, unreadable
from agent.host.drop.dropped import Opened, Reader, changed
from agent.host.ports import Bundle
from pusher.wire import (
    DROP_FOLDER,
    DROP_INDEX,
    DROP_MANIFEST,
    DROP_SIGNATURE,
    MANIFEST_BYTES,
    SIGNATURE_BYTES,
    Directory,
    Entry,
    File,
    Link,
    Manifest,
    WireError,
    check_path,
    parse_index_line,
)
from pusher.wire.problems import malformed_bundle

_LINE_MOST = 32 * 1024


class DroppedFolder:
    """The folder `tree/` with `tree.manifest.json`, `tree.manifest.json.sig` and `tree.index.jsonl` beside it.

    First all sizes are checked, then all digests. The place that was reached is remembered, so that an arriving
    file does not mean checking all those before it again. `forget` when manifest, signature or index have changed.
    """

    name = DROP_FOLDER
    manifest_apart = True

    def __init__(self, directory: OpenDirectory) -> None:
        self._directory = directory
        self._parsed = False
        self._sized = 0
        self._hashed = 0

    def stamps(self) -> tuple[Stamp | None, ...]:
        return tuple(self._directory.stamp(name) for name in (DROP_MANIFEST, DROP_SIGNATURE, DROP_INDEX))

    def open(self) -> Opened:
        return self

    def close(self) -> None:
        return

    def bundle(self) -> Bundle:
        return _FolderBundle(self._directory)

    def forget(self) -> None:
        self._parsed, self._sized, self._hashed = False, 0, 0

    def check(self, bundle: Bundle, entries: Iterable[Entry]) -> None:
        """As in the port. It goes on where the last call stopped."""
        if not self._parsed:
            for _ in entries:
                pass
            self._parsed = True
        with Chain(self._directory.descriptor) as chain:
            for at, entry in self._entries(self._sized):
                self._sized = at
                _check(entry, chain, content=False)
            for at, entry in self._entries(self._hashed):
                self._hashed = at
                _check(entry, chain, content=True)

    def _entries(self, start: int) -> Iterator[tuple[int, Entry]]:
        """The entries of the index from byte `start` on, each with the byte at which it begins. Raises:
        Missing."""
        descriptor = open_regular(DROP_INDEX, self._directory.descriptor)
        try:
            with os.fdopen(descriptor, "rb") as lines:
                lines.seek(start)
                while line := lines.readline(_LINE_MOST):
                    yield start, _entry(line)
                    start += len(line)
        except OSError as error:
            raise unreadable(DROP_INDEX, error) from error


class _FolderBundle:
    """The `Bundle` port over a dropped folder. It has all files of the index."""

    def __init__(self, directory: OpenDirectory) -> None:
        self._directory = directory
        self._lines: list[bytes] = []

    def signed_manifest(self) -> tuple[bytes, bytes]:
        return self._content(DROP_MANIFEST, MANIFEST_BYTES), self._content(DROP_SIGNATURE, SIGNATURE_BYTES)

    def verified(self, manifest: Manifest) -> None:
        """Nothing here is unpacked: a folder costs what its files have."""

    def index(self, size: int) -> Iterator[bytes]:
        """As in the port. Raises: Missing, if the index that is there is another one."""
        descriptor = open_regular(DROP_INDEX, self._directory.descriptor)
        try:
            with os.fdopen(descriptor, "rb") as lines:
                found = os.fstat(descriptor).st_size
                if found != size:
                    raise Missing(DROP_INDEX, f"the {DROP_INDEX} that {DROP_MANIFEST} names, of {size} bytes "
                                              f"(there are {found})")  # fmt: skip
                while size and (line := lines.readline(min(size, _LINE_MOST))):
                    if len(line) == _LINE_MOST:
                        raise malformed_bundle("its index has a line longer than two paths can be")
                    size -= len(line)
                    self._lines.append(line)
                    yield line
        except OSError as error:
            raise unreadable(DROP_INDEX, error) from error

    def files(self) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        with Chain(self._directory.descriptor) as chain:
            for line in self._lines:
                entry = _entry(line)
                if not isinstance(entry, File):
                    continue
                try:
                    descriptor = open_regular(
                        entry.path.rpartition("/")[2], _folder(entry, chain), shown=_shown(entry)
                    )
                except Missing as problem:
                    raise changed(entry.path) from problem
                try:
                    size = os.fstat(descriptor).st_size
                    yield entry.path, size, Reader(descriptor, size).chunks()
                finally:
                    os.close(descriptor)

    def _content(self, name: str, most: int) -> bytes:
        descriptor = open_regular(name, self._directory.descriptor)
        try:
            content = b"".join(Reader(descriptor, most + 1).chunks())
        finally:
            os.close(descriptor)
        if len(content) > most:
            raise Missing(name, f"a {name} of at most {most} bytes")
        return content


def _entry(line: bytes) -> Entry:
    """An entry of an index that was checked. It may have changed since; its path alone matters here."""
    try:
        entry = parse_index_line(line)
        check_path(entry.path)
    except WireError as error:
        raise Missing(DROP_INDEX, f"the {DROP_INDEX} that {DROP_MANIFEST} names ({error})") from error
    return entry


def _check(entry: Entry, chain: Chain, *, content: bool) -> None:
    """Compare a file or link with its entry: kind and size, and with `content` its digest instead.

    Not its mode: the modes of a release come from its index. Raises: Missing.
    """
    shown, name, folder = _shown(entry), entry.path.rpartition("/")[2], _folder(entry, chain)
    if isinstance(entry, Link):
        try:
            target = os.readlink(name, dir_fd=folder)
        except OSError:
            target = ""
        if target != entry.target:
            raise Missing(shown, f"the symbolic link {shown} -> {entry.target}")
        return
    if isinstance(entry, Directory):
        # What is in it does not travel on: only the index counts.
        if not _is_folder(name, folder):
            raise Missing(shown, f"the folder {shown}")
        return
    if content:
        descriptor = open_regular(name, folder, shown=shown)
        try:
            digest = hashlib.sha256()
            for chunk in Reader(descriptor, entry.size + 1).chunks():
                digest.update(chunk)
        finally:
            os.close(descriptor)
        if digest.hexdigest() != entry.sha256:
            raise Missing(shown, f"{shown} as it was signed (its content differs)")
        return
    try:
        size = os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    except OSError as error:
        raise unreadable(shown, error) from error
    if size != entry.size:
        raise Missing(shown, f"{shown} of {entry.size} bytes (there are {size})")


def _is_folder(name: str, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _folder(entry: Entry, chain: Chain) -> int:
    above = f"{DROP_FOLDER}/{entry.path}".rpartition("/")[0]
    try:
        return chain.folder(above)
    except OSError as error:
        raise unreadable(_shown(entry), error) from error


def _shown(entry: Entry) -> str:
    return f"{DROP_FOLDER}/{entry.path}"
