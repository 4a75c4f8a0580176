"""git, asked about the work tree around a folder.

Invariant: nothing is written into the repository. The folder alone decides which repository is meant.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_DEADLINE_S = 20.0
_DECIDES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
"""What git sets for its hooks."""


class GitFailed(Exception):
    """What git says about why it cannot answer, in one line."""


def work_tree(folder: Path) -> Path | None:
    """The top of the git work tree around a folder; None if there is none."""
    real = Path(os.path.realpath(folder))
    return next((above for above in (real, *real.parents) if _is_top(above / ".git")), None)


def _is_top(git: Path) -> bool:
    """Whether this is what git looks for: a repository, or the file of a submodule or a further work tree."""
    return os.path.isfile(git) or os.path.isfile(git / "HEAD")


def is_repository(folder: Path) -> bool:
    """Whether a folder is a repository itself, without a work tree: a bare one, or `.git`."""
    return os.path.isfile(folder / "HEAD") and all(os.path.isdir(folder / one) for one in ("objects", "refs"))


def environment() -> dict[str, str]:
    """The environment for programs that run git: none of it names another repository than that of their folder."""
    return {key: value for key, value in os.environ.items() if key not in _DECIDES}


def ask(folder: Path, *words: str, index: str = "") -> str:
    """What git answers in a folder, without the newline at its end. Names are as the file system has them.

    `index` is a file that stands for the index of the repository. Raises: GitFailed.
    """
    own = {"GIT_INDEX_FILE": index} if index else {}
    try:
        done = subprocess.run(
            ("git", "-C", os.path.realpath(folder), *words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=_DEADLINE_S,
            # LANGUAGE counts more than LC_ALL, unless that is just "C": gettext(3).
            env={**environment(), **own, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8", "LANGUAGE": ""},
        )
    except subprocess.CalledProcessError as error:
        said = os.fsdecode(error.stderr).strip()
        raise GitFailed(said.partition("\n")[0].removeprefix("fatal: ") or "it says nothing") from error
    except FileNotFoundError as error:
        raise GitFailed("git is not installed") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise GitFailed(str(error)) from error
    return os.fsdecode(done.stdout).removesuffix("\n")


def names(folder: Path, *words: str, index: str = "") -> list[str]:
    """The names that git lists, each ended by NUL. Raises: GitFailed."""
    return [name for name in ask(folder, *words, index=index).split("\0") if name]


def differing(folder: Path) -> list[str]:
    """The tracked paths in a folder, relative to it, that the last commit has otherwise, sorted.

    A submodule is looked into: its files are named, or it itself where no file differs. Raises: GitFailed.
    """
    return sorted({*_differing(folder, "HEAD"), *_differing_unwatched(folder)})


def unwatched(folder: Path) -> dict[str, str]:
    """The tracked paths in a folder that git was told not to look at, each with the option of `git update-index`
    that ends this. Raises: GitFailed.
    """
    lines = names(folder, "ls-files", "-v", "-z", "--", ".")
    return {line[2:]: _ENDED_BY[line[0]] for line in lines if line[0] in _ENDED_BY}


_ENDED_BY = {**dict.fromkeys("hmrck", "--no-assume-unchanged"), **dict.fromkeys("Ss", "--no-skip-worktree")}
"""By the letters of `git ls-files -v`."""


def _differing(folder: Path, commit: str) -> Iterator[str]:
    for path in _compared(folder, commit):
        inner = _inside(folder, path, commit)
        if inner:
            yield from (f"{path}/{one}" for one in inner)
        else:
            yield path


def _compared(folder: Path, commit: str, *, index: str = "") -> list[str]:
    # Otherwise a configuration could have git pass over a submodule: `ignore = all` in .gitmodules, for example.
    whole = ("--ignore-submodules=untracked", "--no-ext-diff", "--no-textconv", "--no-renames")
    return names(folder, "diff", *whole, "--name-only", "--relative", "-z", commit, "--", ".", index=index)


def _inside(folder: Path, path: str, commit: str) -> list[str]:
    """What differs inside a submodule from the commit of it that `commit` has; empty if that cannot be said."""
    inner = folder / path
    if os.path.islink(inner) or not os.path.isdir(inner) or work_tree(inner) != Path(os.path.realpath(inner)):
        return []
    try:
        return list(_differing(inner, ask(folder, "rev-parse", "--verify", f"{commit}:./{path}")))
    except GitFailed:
        return []


def _differing_unwatched(folder: Path) -> list[str]:
    """What differs from the last commit although git was told not to look at it."""
    if not unwatched(folder):
        return []
    import tempfile  # here: almost nobody has such files

    with tempfile.TemporaryDirectory(prefix="pusher-") as made:
        # An index without marks. It knows no times, so git reads every file: only those who mark pay for it.
        index = f"{made}/index"
        ask(folder, "read-tree", "--no-sparse-checkout", "HEAD", index=index)
        return _compared(folder, "HEAD", index=index)
