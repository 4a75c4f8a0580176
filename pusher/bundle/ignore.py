"""Which files are not packed: the defaults, then the patterns of the folder's `.pusherignore`.

Invariant: the rules are those of gitignore(5), by `pathspec`: the last pattern that matches decides, `!` includes
again, and nothing beneath an ignored folder is packed.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from pusher.errors import Usage

IGNORE_NAME = ".pusherignore"
DEFAULTS = (
    # version control
    ".git", ".hg", ".svn", ".jj", ".bzr",
    # what is built, and must be built where it runs
    ".venv", "venv", "node_modules", "__pycache__", "*.py[cod]", "*.egg-info",
    ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox", ".coverage",
    # editor and desktop litter
    ".idea", ".vscode", "*.swp", "*.swo", "*~", ".#*", r"\#*#", ".DS_Store", "Thumbs.db",
    IGNORE_NAME,
)  # fmt: skip


def rules(folder: Path) -> Callable[[str], bool]:
    """A function that says whether a path in `folder` is ignored. The path of a folder ends with a slash.

    It must not be asked about paths beneath an ignored folder. Raises: Usage.
    """
    # Imported here: only commands that pack need it.
    import pathspec

    file = folder / IGNORE_NAME
    try:
        # A broken link is an error, not a missing file: what it should exclude must not be packed.
        own = _lines(file) if os.path.lexists(file) else []
        spec = pathspec.GitIgnoreSpec.from_lines([*DEFAULTS, *own])
    except (OSError, ValueError, re.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Usage(f"{file} cannot be used", why=why) from error
    if any("/" in line.rstrip("/ ") for line in own):
        return spec.match_file
    # No pattern has a slash, so only the last name counts. Trees repeat names: each is matched once.
    known: dict[str, bool] = {}

    def ignored(path: str) -> bool:
        name = path[path.rfind("/", 0, -1) + 1 :]
        found = known.get(name)
        if found is None:
            found = known[name] = spec.match_file(name)
        return found

    return ignored


def _lines(file: Path) -> list[str]:
    if file.exists() and not file.is_file():
        raise ValueError("it is not a file")  # Reading a pipe could wait forever.
    # Like git, skip a byte order mark: with it, the first pattern would match nothing.
    return file.read_text("utf-8-sig").splitlines()
