"""What the releases on disk hold: by digest, to spare a transfer; and against their index, to find damage.

Invariant: only looked at, never changed. What a stored index says is a hint where content may be had; who
copies it hashes it.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Container, Iterable, Iterator
from pathlib import Path

from agent.core.layout import papers
from pusher.wire import (
    INDEX_NAME,
    MANIFEST_NAME,
    RESERVED_NAMES,
    Entry,
    Link,
    Manifest,
    WireError,
    parse_index_line,
)

# The members of a file's line in their canonical order; five times as fast as parsing the line as JSON.
_LINE = re.compile(rb'"path":("(?:[^"\\]|\\.)*"),"sha256":"([0-9a-f]{64})"')


class Kept:
    """Where content lies in kept releases, by its SHA-256 in hex."""

    def __init__(self, releases: Iterable[Path], *, wanted: Container[str] | None = None) -> None:
        self._releases = tuple(releases)
        self._wanted = wanted
        self._first: list[dict[str, str]] = []
        self._all: dict[str, list[Path]] | None = None
        for release in self._releases:
            known = self._first[:]
            self._first.append({})
            for digest, path in self._listed(release):
                if not any(digest in one for one in known):
                    self._first[-1].setdefault(digest, path)

    def __contains__(self, digest: object) -> bool:
        return any(digest in one for one in self._first)

    def copies(self, digest: str) -> Iterator[Path]:
        """Every place that is said to have the content, the newest release's first."""
        first = None
        for release, listed in zip(self._releases, self._first, strict=True):
            if digest in listed:
                first = release / listed[digest]
                yield first
                break
        if first is not None:
            yield from (path for path in self._everywhere().get(digest, ()) if path != first)

    def _everywhere(self) -> dict[str, list[Path]]:
        """All places of all content: only built once a first place turned out to be damaged."""
        if self._all is None:
            everywhere: dict[str, list[Path]] = {}
            for release in self._releases:
                for digest, path in self._listed(release):
                    everywhere.setdefault(digest, []).append(release / path)
            self._all = everywhere
        return self._all

    def _listed(self, release: Path) -> Iterator[tuple[str, str]]:
        for line in stored_index(release):
            found = _LINE.search(line)
            if found and (self._wanted is None or found[2].decode() in self._wanted):
                try:
                    yield found[2].decode(), json.loads(found[1])
                except ValueError:
                    continue


def kept(releases: Iterable[Path], *, wanted: Container[str] | None = None) -> Kept:
    """Where content lies in `releases`, newest first; only the digests in `wanted`, if given. Blocking.

    A release without a readable index has nothing to offer.
    """
    return Kept(releases, wanted=wanted)


def stored_index(release: Path) -> Iterator[bytes]:
    """The lines of the index that lies with a release; none if it cannot be read."""
    try:
        with open(papers(release) / INDEX_NAME, "rb") as lines:
            yield from lines
    except OSError:
        return


def intact(release: Path, *, shared: Collection[str] = (), extra: bool = True) -> str:
    """The first difference between a release and what was signed, as words; empty if there is none. Blocking.

    Looks at the content, mode and kind of everything listed, in the index's order; then, with `extra`, for
    what is not listed, but for the agent's own names and the app's `shared` paths.
    """
    listed: set[str] = set()
    digest = hashlib.sha256()
    try:
        manifest = Manifest.from_bytes((papers(release) / MANIFEST_NAME).read_bytes())
        for line in stored_index(release):
            digest.update(line)
            entry = parse_index_line(line)
            listed.add(entry.path)
            if difference := _difference(release, entry):
                return f"{entry.path} {difference}"
    except (OSError, WireError) as error:
        return f"its signed papers are damaged: {error}"
    if digest.hexdigest() != manifest.index_sha256:
        return "its signed papers are damaged: the index is not the one that was signed"
    for path in _leaves(release, "", ignored={*RESERVED_NAMES, *shared}) if extra else ():
        if path not in listed:
            return f"{path} does not belong to it"
    return ""


def _difference(release: Path, entry: Entry) -> str:
    path = release / entry.path
    try:
        if isinstance(entry, Link):
            return "" if os.readlink(path) == entry.target else "has changed"
        with open_regular(path) as file:
            state = os.fstat(file.fileno())
            same = state.st_size == entry.size and stat.S_IMODE(state.st_mode) == entry.mode
            return "" if same and hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256 else "has changed"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
