"""A folder that is packed: its index, and the contents of its files.

Invariant: the index says what was read. The same tree gives the same bytes on every machine, whatever its
times, owners and order on disk. If a file changes while it is sent, sending fails.
"""

import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pusher.bundle.ignore import rules
from pusher.errors import Usage
from pusher.wire import (
    Code,
    Entry,
    Failed,
    File,
    Limits,
    Link,
    WireError,
    check_path,
    check_target,
    index_line,
    reserved,
)

_CHUNK = 256 * 1024
_DEPTH = Limits().depth


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder as it was read. `entries` are sorted by path, as the lines of `index` are.

    `made`: files that lie elsewhere, by their path in the tree.
    """

    folder: Path
    entries: tuple[Entry, ...]
    index: bytes
    made: Mapping[str, Path] = field(default_factory=dict)

    @property
    def files(self) -> tuple[File, ...]:
        return tuple(entry for entry in self.entries if isinstance(entry, File))

    def with_files(self, made: Mapping[str, Path]) -> "Tree":
        """The tree with these files, by their path in it, in place of any that it has there. Raises: Usage."""
        added: list[Entry] = []
        for path, source in made.items():
            try:
                _, size, sha256 = _read_through(str(source))
            except OSError as error:
                raise _cannot(str(source), "cannot be read", error.strerror or str(error)) from error
            added.append(File(path, 0o644, size, sha256))
        entries = [*(one for one in self.entries if one.path not in made), *added]
        entries.sort(key=lambda entry: entry.path)
        return Tree(self.folder, tuple(entries), b"".join(map(index_line, entries)), {**self.made, **made})

    def contents(self, wanted: Collection[str] | None = None) -> Iterator[tuple[File, Iterator[bytes]]]:
        """The files, or those whose digest is in `wanted`, in order, each with its content.

        Reading a content raises: Failed, if it differs from the index by now; Usage.
        """
        for file in self.files:
            if wanted is None or file.sha256 in wanted:
                yield file, self._content(file)

    def _content(self, file: File) -> Iterator[bytes]:
        digest, size = hashlib.sha256(), 0
        try:
            with open(
                os.open(self.made.get(file.path, self.folder / file.path), _READ), "rb", buffering=0
            ) as source:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    if size > file.size:
                        break
                    yield chunk
        except OSError as error:
            raise _cannot(file.path, "cannot be read", error.strerror or str(error)) from error
        if (size, digest.hexdigest()) != (file.size, file.sha256):
            raise Failed(
                Code.CONTENT_MISMATCH,
                f"{file.path!r} changed while it was being sent",
                hint="Nothing was deployed. Send again when no program writes into the folder",
            )


def read_tree(folder: Path) -> Tree:
    """The tree of `folder`, without ignored files (`pusher.bundle.ignore`) and without empty folders.

    Raises: Usage, naming the first file that cannot be packed: a device or socket, a link that is absolute or
    leaves the tree, an unreadable file, a name that the agent reserves. Also if the tree is empty.
    """
    entries = sorted(_walk(folder, "", rules(folder)), key=lambda entry: entry.path)
    if not entries:
        raise Usage(f"{folder} has no files to send", hint="Is every file in it ignored? See .pusherignore")
    return Tree(folder, tuple(entries), b"".join(map(index_line, entries)))


def dangling(tree: Tree) -> list[Link]:
    """The links of a tree whose target is not in the tree: it is ignored, or does not exist.

    This can be intended: shared paths are made on the host.
    """
    links = [entry for entry in tree.entries if isinstance(entry, Link)]
    if not links:
        return []
    there = {""}
    for entry in tree.entries:
        there.add(entry.path)
        there.update(itertools.accumulate(entry.path.split("/")[:-1], lambda above, name: f"{above}/{name}"))
    top = os.path.realpath(tree.folder)
    return [one for one in links if _real(f"{top}/{one.path}", top=top) not in there]


_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def _walk(folder: Path, above: str, ignored: Callable[[str], bool]) -> Iterator[Entry]:
    try:
        if above.count("/") >= _DEPTH:
            check_path(above[:-1])
        found = list(os.scandir(folder / above))
    except WireError as error:
        raise _cannot(f"{above[:60]}...", "cannot be packed", str(error)) from error
    except OSError as error:
        raise _cannot(above or str(folder), "cannot be listed", error.strerror or str(error)) from error
    for item in found:
        path = above + item.name
        if item.is_dir(follow_symlinks=False):
            if not ignored(f"{path}/"):
                yield from _walk(folder, f"{path}/", ignored)
        elif not ignored(path):
            yield _entry(item, path)


def _entry(item: "os.DirEntry[str]", path: str) -> Entry:
    try:
        check_path(path)
        if reserved(path):
            raise WireError("the agent reserves this name")
        if item.is_symlink():
            return Link(path, check_target(path, os.readlink(item.path)))
        if not item.is_file(follow_symlinks=False):
            kind = stat.S_IFMT(item.stat(follow_symlinks=False).st_mode)
            raise WireError(f"it is a {_KINDS.get(kind, 'special file')}, not a file or a link")
        mode, size, sha256 = _read_through(item.path)
        return File(path, 0o755 if mode & 0o100 else 0o644, size, sha256)
    except WireError as error:
        raise _cannot(path, "cannot be packed", str(error)) from error
    except OSError as error:
        raise _cannot(path, "cannot be read", error.strerror or str(error)) from error


_KINDS = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFBLK: "device", stat.S_IFCHR: "device"}


def _real(path: str, *, top: str) -> str:
    """The final target of a link, as a path in the tree."""
    return os.path.realpath(path).removeprefix(top).removeprefix("/")


def _read_through(path: str) -> tuple[int, int, str]:
    """Mode, size and digest of one file, all from one descriptor: by name, each could be of another file."""
    size, digest = 0, hashlib.sha256()
    source = os.open(path, _READ)
    try:
        mode = os.fstat(source).st_mode
        while chunk := os.read(source, _CHUNK):
            size += len(chunk)
            digest.update(chunk)
    finally:
        os.close(source)
    return mode, size, digest.hexdigest()


def _cannot(path: str, what: str, why: str) -> Usage:
    return Usage(f"{path!r} {what}", why=why, hint="Fix it, or list it in .pusherignore")
