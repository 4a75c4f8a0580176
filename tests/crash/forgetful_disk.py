"""A disk that records, at each change, what of a tree would be left if the power went just then.

The model is the strictest possible: the content of a file is durable from its fsync on, the names in a folder from
the folder's fsync on, and nothing becomes durable by the way (as it often does on ext4, which commits everything
at once). The target of a link and the mode of a file go with the name. Inodes identify files. Each inode that was
seen is kept open, so that the kernel cannot give its number to another file.
"""

import os
import random
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.host.storage.disk import Disk


@dataclass(frozen=True, slots=True)
class Node:
    """What an inode has: content (of a file), a target (of a link), or names and their inodes (of a folder)."""

    kind: str
    mode: int
    content: bytes = b""
    target: str = ""
    names: dict[str, int] = field(default_factory=dict)


Tree = dict[int, Node]


@dataclass(frozen=True, slots=True)
class Moment:
    """The state just before the change `op`: what programs see, what is durable, and the agent's journal."""

    op: str
    top: int
    now: Tree
    durable: Tree
    journal: dict[str, bytes]

    def restore(self, into: Path, choose: Callable[[], bool]) -> None:
        """Make the tree `into` as it could be found after a power cut.

        `choose` is asked for each folder and file: whether it survives as it was, although it was not flushed.
        """
        self._restore(self.top, into, choose)

    def _restore(self, inode: int, path: Path, choose: Callable[[], bool]) -> None:
        seen = self.now.get(inode) or self.durable[inode]
        node = seen if choose() else self.durable.get(inode, Node(seen.kind, seen.mode))
        if node.kind == "folder":
            path.mkdir(exist_ok=True)
            for name, inner in node.names.items():
                if inner in self.now or inner in self.durable:
                    self._restore(inner, path / name, choose)
            path.chmod(node.mode)
        elif node.kind == "link":
            path.symlink_to(seen.target)
        else:
            path.write_bytes(node.content)
            path.chmod(seen.mode)


class ForgetfulDisk(Disk):
    """The real disk. Between `begin` and `finish` it takes a moment at each change below `top`."""

    def __init__(self) -> None:
        super().__init__()
        self.top: Path | None = None
        self._journal = Path()
        self._without = ""
        self._moments: list[Moment] = []
        self._durable: Tree = {}
        self._held: dict[int, int] = {}

    def begin(self, top: Path, *, journal: Path, without: str = "") -> None:
        """Take moments from now on; all that is there now is durable. The flush `without` is left out."""
        self.top, self._journal, self._without, self._moments = top, journal, without, []
        self._durable = self._read(top)

    def finish(self) -> list[Moment]:
        """Take the last moment, and no more. Returns all moments."""
        self._take("(the end)")
        for descriptor in self._held.values():
            os.close(descriptor)
        self.top, self._held = None, {}
        return self._moments

    def sync_folder(self, path: Path, *, op: str) -> None:
        super().sync_folder(path, op=op)
        if self.top and op != self._without:
            inode = os.stat(path).st_ino
            self._durable[inode] = self._read(path)[inode]

    def sync_tree(self, path: Path, *, op: str) -> None:
        super().sync_tree(path, op=op)
        if self.top and op != self._without:
            self._durable.update(self._read(path))

    def write(self, path: Path, content: bytes, *, op: str, mode: int = 0o644, replace: bool = False) -> None:
        # Its content is flushed before it gets its name, which is what `sync_folder` then makes durable.
        super().write(path, content, op=op, mode=mode, replace=replace)
        if self.top and f"{op}.flush" != self._without:
            self._durable.update(self._read(path))

    def _at(self, op: str) -> None:
        if self.top:
            self._take(op)

    def _take(self, op: str) -> None:
        assert self.top is not None
        journal = {one.name: one.read_bytes() for one in self._journal.parent.glob(f"{self._journal.name}*")}
        now = self._read(self.top)
        self._moments.append(Moment(op, os.stat(self.top).st_ino, now, dict(self._durable), journal))

    def _read(self, top: Path) -> Tree:
        found: Tree = {}
        self._visit(top, found)
        return found

    def _visit(self, path: Path, found: Tree) -> int:
        state = os.lstat(path)
        inode, mode = state.st_ino, stat.S_IMODE(state.st_mode)
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        if stat.S_ISLNK(state.st_mode):
            found[inode] = Node("link", mode, target=os.readlink(path))
        elif stat.S_ISDIR(state.st_mode):
            names = {name: self._visit(path / name, found) for name in sorted(os.listdir(path))}
            found[inode] = Node("folder", mode, names=names)
        else:
            found[inode] = Node("file", mode, content=path.read_bytes())
        return inode


def nothing_more() -> bool:
    """What was not flushed is lost."""
    return False


def by_chance(seed: int) -> Callable[[], bool]:
    """Each thing that was not flushed is lost or not, by chance."""
    chance = random.Random(seed)
    return lambda: chance.random() < 0.5


def restore(moment: Moment, *, of: Path, root: Path, top: Path, journal: Path, choose: Callable[[], bool]) -> None:
    """Copy the host at `of` to `root` as it could be found: with `top` and the journal as they were then."""
    away = {top.relative_to(of).parts[0], "run", "src"}
    shutil.copytree(of, root, symlinks=True, ignore=lambda at, _: away if at == str(of) else set())
    (root / "run/pusher-agent").mkdir(parents=True)
    inside = root / top.relative_to(of)
    inside.parent.mkdir(parents=True)
    moment.restore(inside, choose)
    there = root / journal.relative_to(of)
    for stale in there.parent.glob(f"{there.name}*"):
        stale.unlink()
    for name, content in moment.journal.items():
        (there.parent / name).write_bytes(content)
