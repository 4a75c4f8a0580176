"""A folder in a git work tree, as it is sent: what git tracks, under the name that git gives its commit.

Invariant: what is sent is in the commit, unless the sender says that a dirty tree may go.
"""

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pusher.bundle import git
from pusher.bundle.git import GitFailed
from pusher.errors import Usage

_NAMES = 5


@dataclass(frozen=True, slots=True)
class Checkout:
    """What git says about a folder. Paths are relative to it.

    `described` is `git describe --tags --always`, with `-dirty` if a tracked file in this folder differs.
    `untracked` is what git neither tracks nor ignores; a folder ends with a slash.
    """

    tracked: frozenset[str]
    untracked: tuple[str, ...]
    differing: tuple[str, ...]
    described: str


def read_checkout(folder: Path, *, dirty: bool) -> Checkout:
    """What git tracks in `folder`, which lies in a work tree.

    Raises: Usage, if git cannot say, if a submodule is not there, or, unless `dirty`, if a tracked file differs
    from the last commit.
    """
    try:
        git.ask(folder, "rev-parse", "--verify", "HEAD^{commit}")
    except GitFailed as error:
        raise _cannot(
            folder, "there is no commit yet" if "single revision" in str(error) else str(error)
        ) from error
    try:
        tracked = git.names(folder, "ls-files", "--recurse-submodules", "-z", "--", ".")
        others = git.names(folder, "ls-files", "--others", "--exclude-standard", "--directory", "-z", "--", ".")
        changed = git.differing(folder)
        described = git.ask(folder, "describe", "--tags", "--always", "HEAD")
    except GitFailed as error:
        raise _cannot(folder, str(error)) from error
    if not tracked:
        raise Usage(f"{folder} cannot be sent", why="git tracks no file in it",
                    hint=f"To send all that is in it: ../{folder.resolve().name}")  # fmt: skip
    _check_submodules(folder, frozenset(tracked).difference(changed))
    there = frozenset(path for path in tracked if os.path.lexists(folder / path))
    # A sparse checkout lacks files. Inside a submodule, git does not call that a difference.
    differing = sorted({*changed, *(path for path in tracked if path not in there)})
    if differing and not dirty:
        count = f"{len(differing)} files differ" if len(differing) > 1 else "1 file differs"
        more = f" and {len(differing) - _NAMES} more" if len(differing) > _NAMES else ""
        raise Usage(
            f"{folder} is not as it was committed",
            why=f"{count} from the last commit: {', '.join(differing[:_NAMES])}{more}",
            hint=f"{_todo(folder, differing)}, or send it as it is: --dirty",
        )
    return Checkout(there, tuple(others), tuple(differing), f"{described}{'-dirty' if differing else ''}")


def _todo(folder: Path, differing: Iterable[str]) -> str:
    """What to do about files that differ: `git status` says nothing of those that it was told not to look at."""
    unwatched = git.unwatched(folder)
    silent = [path for path in differing if path in unwatched]
    if not silent:
        return "Commit or stash that"
    if any(not os.path.lexists(folder / path) for path in silent):
        return "git is silent about it: this is a sparse checkout. To get its files: git sparse-checkout disable"
    first = silent[0]
    show = f"git update-index {unwatched[first]} {shlex.quote(first)}"
    return f"git is silent about {first}, because it was told not to look at it. To end that: {show}"


def _check_submodules(folder: Path, unchanged: Iterable[str]) -> None:
    """Raises: Usage, naming the first submodule without its files. git lists one as if it were a file."""
    for path in sorted(unchanged):
        if os.path.isdir(folder / path) and not os.path.islink(folder / path):
            raise Usage(
                f"The submodule {path} is not there",
                why="its folder has no files of it",
                hint="To get it: git submodule update --init --recursive",
            )


def _cannot(folder: Path, why: str) -> Usage:
    hint = f"See: git -C {shlex.quote(str(folder))} status"
    if "no commit" in why:
        hint = "Commit first"
    if "not installed" in why:
        hint = "Install git"
    if "dubious ownership" in why:
        top = shlex.quote(str(git.work_tree(folder)))
        trust = f"git config --global --add safe.directory {top}"
        hint = f"The repository belongs to another user. If you trust it: {trust}"
    return Usage(f"{folder} cannot be sent as git tracks it", why=why, hint=hint)
