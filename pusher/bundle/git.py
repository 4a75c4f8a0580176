"""git, asked about the work tree around a folder.

Invariant: nothing is written into the repository. The folder alone decides which repository is meant.
"""

import os
import subprocess
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


def ask(folder: Path, *words: str) -> str:
    """What git answers in a folder, without the newline at its end. Names are as the file system has them.

    Raises: GitFailed.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _DECIDES}
    try:
        done = subprocess.run(
            ("git", "-C", os.path.realpath(folder), *words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=_DEADLINE_S,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"},
        )
    except subprocess.CalledProcessError as error:
        said = os.fsdecode(error.stderr).strip()
        raise GitFailed(said.partition("\n")[0].removeprefix("fatal: ") or "it says nothing") from error
    except FileNotFoundError as error:
        raise GitFailed("git is not installed") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise GitFailed(str(error)) from error
    return os.fsdecode(done.stdout).removesuffix("\n")


def names(folder: Path, *words: str) -> list[str]:
    """The names that git lists, each ended by NUL. Raises: GitFailed."""
    return [name for name in ask(folder, *words).split("\0") if name]


def differing(folder: Path) -> list[str]:
    """The tracked paths in a folder, relative to it, that the last commit has otherwise. Raises: GitFailed."""
    plain = ("--no-ext-diff", "--no-textconv", "--name-only", "--no-renames", "--relative", "-z")
    return names(folder, "diff", *plain, "HEAD", "--", ".")
