"""The commit that a tree comes from, as git says it.

Invariant: a file counts as changed unless git says that it is in the commit just like this. Nothing is written
into the repository. Without git, a repository or a commit there is no answer.
"""

import os
import subprocess
from collections.abc import Collection
from pathlib import Path

from pusher.wire import Source, WireError

_DEADLINE_S = 20.0
_DECIDES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
"""What git sets for its hooks. Here the folder decides which repository is meant."""


def source_of(folder: Path, paths: Collection[str]) -> Source | None:
    """The commit of the git work tree around `folder`, and how many of its `paths` differ from it."""
    top = Path(os.path.realpath(folder))
    if not any(os.path.lexists(above / ".git") for above in (top, *top.parents)):
        return None
    commit = _git(top, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    tracked = _git(top, "ls-files", "-z", "--", ".")
    differing = _git(
        top,
        "diff",
        "--no-ext-diff",
        "--no-textconv",
        "--name-only",
        "--no-renames",
        "--relative",
        "-z",
        "HEAD",
        "--",
        ".",
    )
    if commit is None or tracked is None or differing is None:
        return None
    known, differ = set(_names(tracked)), set(_names(differing))
    changed = {path for path in paths if path in differ or path not in known}
    gone = {path for path in differ if not os.path.lexists(top / path)}
    try:
        return Source(os.fsdecode(commit.strip()), len(changed | gone))
    except WireError:
        return None


def _git(folder: Path, *words: str) -> bytes | None:
    environment = {key: value for key, value in os.environ.items() if key not in _DECIDES}
    try:
        done = subprocess.run(
            ("git", "-C", str(folder), *words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=_DEADLINE_S,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _names(listed: bytes) -> list[str]:
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]
