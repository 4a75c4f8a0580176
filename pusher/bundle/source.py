"""What `send`, `diff`, `drop` and `pack` are given: the name of a version, a folder, or a bundle file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pusher.bundle import git
from pusher.bundle.checkout import Checkout, read_checkout
from pusher.bundle.commit import source_of
from pusher.bundle.left_out import default_line, differing_line, untracked_line
from pusher.bundle.tree import Tree, read_tree
from pusher.errors import Usage
from pusher.wire import Source, WireError, check_version


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder to pack, and its version. With `checkout`, only what git tracks in it is packed."""

    path: Path
    version: str
    checkout: Checkout | None = None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.version

    def read(self) -> Tree:
        """The tree of the folder. Raises: Usage."""
        return read_tree(self.path, tracked=self.checkout.tracked if self.checkout else None)

    def source(self, tree: Tree) -> Source | None:
        """The commit of the tree, as git says it. What was made for the tree is no change of its author."""
        return source_of(self.path, {entry.path for entry in tree.entries if entry.path not in tree.made})

    def remarks(self, tree: Tree) -> Iterator[str]:
        """What people should know of how the tree differs from the folder, and from the commit, a line each."""
        if self.checkout:
            yield from differing_line(self.checkout.differing)
            yield from untracked_line(tree.left_out, untracked=self.checkout.untracked)
        yield from default_line(tree.left_out)


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A bundle that was packed before."""

    path: Path

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.path.name


def locate(
    what: str, *, source: Path, root: Path = Path(), named: str = "", dirty: bool = False
) -> Folder | BundleFile:
    """`what` as a folder in `source`, else as a file, else as the path of a folder (with a slash, or `.`).

    Empty: the folder `root`. That, `.`, and the top of a git work tree are sent as git tracks them: `dirty` says
    whether they may differ from the last commit. `named` is the version, instead of the name of the folder or of
    the commit. Raises: Usage, with the closest version as a hint.
    """
    if not what:
        return _checkout(_tracked_root(root, source), "The folder", named=named, dirty=dirty)
    if _is_version(what) and os.path.isdir(source / what):
        return Folder(source / what, _version(named, what) if named else what)
    # These return False for a path that must not be read; the methods of Path raise.
    path = Path(os.path.expanduser(what))
    if os.path.isfile(path):
        if named:
            raise Usage(f"{what} cannot be sent as {named!r}", why="the version of a bundle file is signed")
        return BundleFile(path)
    if os.path.isdir(path) and ("/" in what or what in (".", "..")):
        if git.is_repository(path):
            # All of the history would go live, and its `config`, in which tokens stand.
            hint = "Clone it, and send the clone: git clone"
            raise Usage(
                f"{what} cannot be sent", why="it is a repository of git without files checked out", hint=hint
            )
        top = git.work_tree(path)
        if top is not None and (what == "." or os.path.samefile(top, path)):
            return _checkout(path, what, named=named, dirty=dirty)
        return Folder(path, _version(named or path.resolve().name, what, hint="" if named else _RENAME))
    if "/" not in what and what not in (".", "..") and os.path.isdir(source / what):
        return Folder(source / what, _version(named or what, str(source / what), hint="" if named else _RENAME))
    no_file = "" if os.path.exists(path) else ", and no file of that name"
    why = "" if os.path.isdir(source) else f"{source} is not a folder"
    raise Usage(f"{source} has no version {what!r}{no_file}", why=why, hint=_hint(what, source))


_RENAME = "Rename the folder, or name the version: --as NAME"


def versions(source: Path) -> list[str]:
    """The folders in `source` whose names can be versions, sorted."""
    try:
        names = [item.name for item in source.iterdir() if item.is_dir()]
    except OSError:
        return []
    return sorted(name for name in names if _is_version(name))


def _tracked_root(root: Path, source: Path) -> Path:
    """The folder that is sent if none is named. Raises: Usage, if it is not in a git work tree."""
    if not os.path.isdir(root):
        raise Usage(f"{root} is no folder", hint="See root in pusher.toml: it is relative to that file")
    if git.work_tree(root) is None:
        known = versions(source)
        hint = f"Available: {', '.join(known[-8:])}" if known else "Name a version, a bundle file, or a folder"
        raise Usage("Nothing to send is named", why="this is not a git work tree", hint=hint)
    return root


def _checkout(path: Path, what: str, *, named: str, dirty: bool) -> Folder:
    checkout = read_checkout(path, dirty=dirty)
    return Folder(path, _version(named or checkout.described, what, hint="Name the version: --as NAME"), checkout)


def _version(version: str, what: str, *, hint: str = "") -> str:
    try:
        return check_version(version)
    except WireError as error:
        raise Usage(f"{what} cannot be sent", why=str(error), hint=hint) from error


def _is_version(name: str) -> bool:
    try:
        return bool(check_version(name))
    except WireError:
        return False


def _hint(what: str, source: Path) -> str:
    import difflib

    if os.path.isdir(what):
        return f"To send the folder itself: ./{what}"
    known = versions(source)
    close = difflib.get_close_matches(what, known, n=1)
    if close:
        return f"Did you mean {close[0]}?"
    if known:
        return f"Available: {', '.join(known[-8:])}"
    return "Name the folder of the versions with --source, PUSHER_SOURCE or source in pusher.toml"
