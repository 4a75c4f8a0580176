"""A folder that is packed: its index, and the contents of its files.

Invariant: the index says what was read. The same tree gives the same bytes on every machine, whatever its
times, owners and order on disk. If a file changes while it is sent, sending fails.
"""

import hashlib
import itertools
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pusher.bundle.ignore import BACKUP, BUNDLE, Rules, rules
from pusher.bundle.left_out import UNTRACKED, LeftOut
from pusher.errors import Usage
from pusher.wire import (
    Code,
    Directory,
    Entry,
    Failed,
    File,
    Limits,
    Link,
    Problem,
    WireError,
    check_path,
    check_target,
    index_line,
    reserved,
)

_CHUNK = 256 * 1024
_DEPTH = Limits().depth
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES = 1023


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder as it was read. `entries` are sorted by path, as the lines of `index` are.

    `made`: files that lie elsewhere, by their path in the tree. `left_out`: what lies in the folder and is not in
    the tree; a folder stands for all that is in it.
    """

    folder: Path
    entries: tuple[Entry, ...]
    index: bytes
    made: Mapping[str, Path] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()

    @property
    def folders(self) -> tuple[Directory, ...]:
        """The empty folders."""
        return tuple(entry for entry in self.entries if isinstance(entry, Directory))

    def without_folders(self) -> "Tree":
        """The tree without its empty folders: agents that are older than these refuse them."""
        entries = tuple(entry for entry in self.entries if not isinstance(entry, Directory))
        return replace(self, entries=entries, index=b"".join(map(index_line, entries)))

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
        index = b"".join(map(index_line, entries))
        return replace(self, entries=tuple(entries), index=index, made={**self.made, **made})

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


def read_tree(folder: Path, *, tracked: Collection[str] | None = None) -> Tree:
    """The tree of `folder`, without ignored files (`pusher.bundle.ignore`).

    With `tracked` (paths in the folder), only these files, and those that a pattern of the folder includes.
    Raises: Usage, naming the first file that cannot be packed: a device or socket, a link that is absolute or
    leaves the tree, an unreadable file, a name that the agent reserves. Also if the tree is empty.
    """
    walk = _Walk(folder, rules(folder), tracked)
    entries = sorted(walk.entries(), key=lambda entry: entry.path)
    if all(isinstance(entry, Directory) for entry in entries):
        raise Usage(f"{folder} has no files to send", hint="Is every file in it ignored? See: pusher ignored")
    left_out = tuple(sorted(walk.left_out))
    return Tree(folder, tuple(entries), b"".join(map(index_line, entries)), left_out=left_out)


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


class _Walk:
    """One walk through a folder. `left_out` is filled while `entries` is read."""

    def __init__(self, folder: Path, rules: Rules, tracked: Collection[str] | None) -> None:
        self.folder = folder
        self.rules = rules
        self.tracked = tracked
        self.ways = {path[: at + 1] for path in tracked or () for at, letter in enumerate(path) if letter == "/"}
        """The folders, each with a slash, that hold something tracked."""
        self.left_out: list[LeftOut] = []

    def entries(self, above: str = "") -> Iterator[Entry]:
        found = self._listed(above)
        if not found and above and self.tracked is None:
            yield _folder(above[:-1])
        names = {item.name for item in found}
        for item in found:
            path = above + item.name
            if not item.is_dir(follow_symlinks=False):
                if self._packed(path, names):
                    yield _entry(item, path)
            elif self._entered(f"{path}/"):
                yield from self.entries(f"{path}/")

    def _listed(self, above: str) -> "list[os.DirEntry[str]]":
        try:
            if above.count("/") >= _DEPTH:
                check_path(above[:-1])
            return list(os.scandir(self.folder / above))
        except WireError as error:
            raise _cannot(f"{above[:60]}...", "cannot be packed", str(error)) from error
        except OSError as error:
            raise _cannot(above or str(self.folder), "cannot be listed", error.strerror or str(error)) from error

    def _packed(self, path: str, names: Collection[str]) -> bool:
        verdict = self.rules.decide(path)
        if verdict.ignored and (verdict.own or self._is_meant(path, verdict.pattern, names)):
            self.left_out.append(LeftOut(path, verdict.pattern, verdict.own))
            return False
        if self.tracked is not None and path not in self.tracked and not verdict.included:
            self.left_out.append(LeftOut(path, UNTRACKED, False))
            return False
        return True

    def _is_meant(self, path: str, pattern: str, names: Collection[str]) -> bool:
        """Whether a default rule is about this file: some ask for more than its name."""
        if pattern == BACKUP:
            return path.rpartition("/")[2][:-1] in names
        return pattern != BUNDLE or _is_bundle(self.folder / path)

    def _entered(self, path: str) -> bool:
        verdict = self.rules.decide(path)
        if verdict.ignored and (verdict.own or verdict.pattern not in (BACKUP, BUNDLE)):
            self.left_out.append(LeftOut(path, verdict.pattern, verdict.own))
            return False
        if self.tracked is not None and path not in self.ways and not self.rules.includes:
            self.left_out.append(LeftOut(path, UNTRACKED, False))
            return False
        return True


def _folder(path: str) -> Directory:
    try:
        check_path(path)
        if reserved(path):
            raise WireError("the agent reserves this name")
    except WireError as error:
        raise _cannot(path, "cannot be packed", str(error)) from error
    return Directory(path)


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
        if size <= _POINTER_BYTES and _is_pointer(item.path):
            raise WireError("it is a pointer of Git LFS: its content is not here. To get it: git lfs pull")
        return File(path, 0o755 if mode & 0o100 else 0o644, size, sha256)
    except WireError as error:
        raise _cannot(path, "cannot be packed", str(error)) from error
    except OSError as error:
        raise _cannot(path, "cannot be read", error.strerror or str(error)) from error


def _is_bundle(file: Path) -> bool:
    from pusher.bundle.archive import read_bundle  # here: few folders have one

    try:
        return stat.S_ISREG(file.lstat().st_mode) and bool(read_bundle(file))
    except (OSError, Problem):
        return False


def _is_pointer(path: str) -> bool:
    """Whether a file stands for one that Git LFS has not fetched (git-lfs-spec, "The Pointer")."""
    with open(os.open(path, _READ), "rb", buffering=0) as file:
        return file.read(len(_POINTER)) == _POINTER


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
