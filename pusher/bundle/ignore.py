"""What stays at home: the defaults, and on top of them the folder's `.pusherignore`.

Invariant: gitignore's rules, by `pathspec`: the last pattern that matches decides, `!` takes back in, and
nothing beneath a folder that stays at home can travel.
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
    # what can be made again, and must be made again where it runs
    ".venv", "venv", "node_modules", "__pycache__", "*.py[cod]", "*.egg-info",
    ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox", ".coverage",
    # editor and desktop litter
    ".idea", ".vscode", "*.swp", "*.swo", "*~", ".#*", r"\#*#", ".DS_Store", "Thumbs.db",
    IGNORE_NAME,
)  # fmt: skip


def rules(folder: Path) -> Callable[[str], bool]:
    """Says of a path in `folder` whether it stays at home; a folder's path ends with a slash.

    The caller does not ask about anything beneath a folder that stays. Raises: Usage.
    """
    # Late: only commands that pack pay for it.
    import pathspec

    file = folder / IGNORE_NAME
    try:
        # A link that leads nowhere counts: what it should keep at home must not travel.
        own = _lines(file) if os.path.lexists(file) else []
        spec = pathspec.GitIgnoreSpec.from_lines([*DEFAULTS, *own])
    except (OSError, ValueError, re.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Usage(f"{file} cannot be used", why=why) from error
    if any("/" in line.rstrip("/ ") for line in own):
        return spec.match_file
    # No pattern looks at more than the last name, and trees repeat names: each is judged once.
    known: dict[str, bool] = {}

    def stays(path: str) -> bool:
        name = path[path.rfind("/", 0, -1) + 1 :]
        found = known.get(name)
        if found is None:
            found = known[name] = spec.match_file(name)
        return found

    return stays


def _lines(file: Path) -> list[str]:
    if file.exists() and not file.is_file():
        raise ValueError("it is not a file")  # A pipe would keep us waiting.
    # As git does, an editor's byte order mark is passed over; else the first pattern would match nothing.
    return file.read_text("utf-8-sig").splitlines()
