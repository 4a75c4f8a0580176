"""A plain folder that was dropped, with its papers beside it.

Invariant: beneath it nothing is opened but what its index names, and that through no link. Everything here blocks.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator

from agent.host.drop.folder import Chain, Dropbox, Lacking, Stamp, lacking, open_regular
from agent.host.drop.upload import Opened, Reading, changed
from agent.host.ports import Bundle
from pusher.wire import (
    DROP_FOLDER,
    DROP_INDEX,
    DROP_MANIFEST,
    DROP_SIGNATURE,
    MANIFEST_BYTES,
    SIGNATURE_BYTES,
    Entry,
    Link,
    WireError,
    check_path,
    parse_index_line,
)

_LINE_MOST = 32 * 1024


class DroppedFolder:
    """The folder `tree/` with `tree.manifest.json`, `tree.manifest.json.sig` and `tree.index.jsonl` beside it.

    How far it was found well is remembered, so that a file that arrives does not mean looking at all those that
    arrived before it: first at all sizes, then at all digests. `forget` after the papers have changed.
    """

    name = DROP_FOLDER
    manifest_apart = True

    def __init__(self, box: Dropbox) -> None:
        self._box = box
        self._judged = False
        self._sized = 0
        self._hashed = 0

    def stamps(self) -> tuple[Stamp | None, ...]:
        return tuple(self._box.stamp(name) for name in (DROP_MANIFEST, DROP_SIGNATURE, DROP_INDEX))

    def open(self) -> Opened:
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


class _FolderBundle:
    """The `Bundle` port over a dropped folder. The files of the index travelled, all of them."""

    def __init__(self, box: Dropbox) -> None:
        self._box = box
        self._lines: list[bytes] = []

    def signed_manifest(self) -> tuple[bytes, bytes]:
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
                    raise changed(entry.path) from problem
                try:
                    size = os.fstat(descriptor).st_size
                    yield entry.path, size, Reading(descriptor, size).chunks()
                finally:
                    os.close(descriptor)

    def _paper(self, name: str, most: int) -> bytes:
        descriptor = open_regular(name, self._box.folder)
        try:
            content = b"".join(Reading(descriptor, most + 1).chunks())
        finally:
            os.close(descriptor)
        if len(content) > most:
            raise Lacking(name, f"a {name} of at most {most} bytes")
        return content


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
            for chunk in Reading(descriptor, entry.size + 1).chunks():
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
