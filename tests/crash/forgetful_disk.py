"""A disk that remembers, at each change, what of a tree would be left if the power went just then.

The model is the strictest there is: what a file holds counts from its fsync, what a folder lists from the folder's
fsync, and nothing becomes durable by the way (as it often does on ext4, which commits everything at once). The
target of a link and the mode of a file go with the name. Inodes tell files apart; all that were seen are kept
open, so that no number is given twice.
"""

import os
import random
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from agent.host.storage.disk import Disk


@dataclass(frozen=True, slots=True)
class Node:
    """What is at an inode: content of a file, target of a link, or names of a folder with their inodes."""

    kind: str
    mode: int
    content: bytes = b""
    target: str = ""
    names: dict[str, int] = field(default_factory=dict)


Tree = dict[int, Node]


@dataclass(frozen=True, slots=True)
class Moment:
    """Just before the change `op`: what programs see, what is durable, and the agent's journal beside it."""

    op: str
    top: int
    now: Tree
    durable: Tree
    journal: dict[str, bytes]

    def restore(self, into: Path, choose: Callable[[], bool]) -> None:
        """Make the tree `into` as it could be found after a power cut.

        `choose` says of each folder and file whether what was not flushed of it has made it all the same.
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
    """The real disk, of which `moments` are taken while `top` is set. It lacks the flush named by `without`.

    What it knows belongs to the class: the agent makes its own instance.
    """

    top: ClassVar[Path | None] = None
    journal: ClassVar[Path]
    without: ClassVar[str] = ""
    moments: ClassVar[list[Moment]] = []
    _durable: ClassVar[Tree] = {}
    _held: ClassVar[dict[int, int]] = {}

    @classmethod
    def begin(cls, top: Path, *, journal: Path, without: str = "") -> None:
        """Take moments from now on; all that is there now is durable."""
        cls.top, cls.journal, cls.without, cls.moments = top, journal, without, []
        cls._durable = cls._look(top)

    @classmethod
    def finish(cls) -> list[Moment]:
        """Take the last moment, and no more; all of them."""
        cls._take("(the end)")
        for descriptor in cls._held.values():
            os.close(descriptor)
        cls.top, cls._held = None, {}
        return cls.moments

    def sync_folder(self, path: Path, *, op: str) -> None:
        super().sync_folder(path, op=op)
        if self.top and op != self.without:
            inode = os.stat(path).st_ino
            self._durable[inode] = self._look(path)[inode]

    def sync_tree(self, path: Path, *, op: str) -> None:
        super().sync_tree(path, op=op)
        if self.top and op != self.without:
            self._durable.update(self._look(path))

    def write(self, path: Path, content: bytes, *, op: str, mode: int = 0o644, replace: bool = False) -> None:
        # Its content is flushed before it gets its name, which is what `sync_folder` then makes durable.
        super().write(path, content, op=op, mode=mode, replace=replace)
        if self.top and f"{op}.flush" != self.without:
            self._durable.update(self._look(path))

    def _at(self, op: str) -> None:
        if self.top:
            self._take(op)

    @classmethod
    def _take(cls, op: str) -> None:
        assert cls.top is not None
        journal = {one.name: one.read_bytes() for one in cls.journal.parent.glob(f"{cls.journal.name}*")}
        now = cls._look(cls.top)
        cls.moments.append(Moment(op, os.stat(cls.top).st_ino, now, dict(cls._durable), journal))

    @classmethod
    def _look(cls, top: Path) -> Tree:
        found: Tree = {}
        cls._visit(top, found)
        return found

    @classmethod
    def _visit(cls, path: Path, found: Tree) -> int:
        state = os.lstat(path)
        inode, mode = state.st_ino, stat.S_IMODE(state.st_mode)
        if inode not in cls._held:
            cls._held[inode] = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        if stat.S_ISLNK(state.st_mode):
            found[inode] = Node("link", mode, target=os.readlink(path))
        elif stat.S_ISDIR(state.st_mode):
            names = {name: cls._visit(path / name, found) for name in sorted(os.listdir(path))}
            found[inode] = Node("folder", mode, names=names)
        else:
            found[inode] = Node("file", mode, content=path.read_bytes())
        return inode


def nothing_more() -> bool:
    """What was not flushed is lost."""
    return False


def by_chance(seed: int) -> Callable[[], bool]:
    """What was not flushed is lost or not, as it falls."""
    chance = random.Random(seed)
    return lambda: chance.random() < 0.5


def restore(moment: Moment, *, of: Path, root: Path, top: Path, choose: Callable[[], bool]) -> None:
    """A copy of the host at `of` as it could be found, at `root`: `top` restored, and the journal beside it."""
    away = {top.relative_to(of).parts[0], "run", "src"}
    shutil.copytree(of, root, symlinks=True, ignore=lambda at, _: away if at == str(of) else set())
    (root / "run/pusher-agent").mkdir(parents=True)
    inside = root / top.relative_to(of)
    inside.parent.mkdir(parents=True)
    moment.restore(inside, choose)
    journal = root / ForgetfulDisk.journal.relative_to(of)
    for stale in journal.parent.glob(f"{journal.name}*"):
        stale.unlink()
    for name, content in moment.journal.items():
        (journal.parent / name).write_bytes(content)
