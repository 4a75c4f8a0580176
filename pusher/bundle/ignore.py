"""Which files are not packed: the defaults, then the patterns of the folder's `.pusherignore`.

Invariant: the rules are those of gitignore(5), by `pathspec`: the last pattern that matches decides, `!` includes
again, and nothing beneath an ignored folder is packed. No default hides code: what could be a module or a folder
of an app is anchored, or asks for more than a name.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pusher.errors import Usage

IGNORE_NAME = ".pusherignore"
VERSION_CONTROL = (".git", ".hg", ".svn", ".jj", ".bzr")
BUILT = (
    "/.venv", "/venv", "node_modules", "__pycache__", "*.py[cod]", "*.egg-info",
    ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", "/.tox", "/.nox", ".coverage",
)  # fmt: skip
"""What is built, and must be built where it runs."""
LITTER = (".idea", ".vscode", ".*.swp", ".*.swo", "*~", ".#*", r"\#*#", ".DS_Store", "Thumbs.db", IGNORE_NAME)
"""What editors and desktops leave. `*~` counts only beside the file whose backup it is."""
SECRETS = (
    ".env", ".env.*", "!.env.example", "!.env.sample", "!.env.template", "!.env.dist",
    "*.pem", "id_*", "!id_*.*", "!id_*/", ".netrc", ".pgpass", "*.sqlite3", "credentials*.json",
)  # fmt: skip
"""What a release must not carry. `id_*` is the name of an SSH key: `id_map.py` and folders are not meant."""
BUNDLE = "*.tar.zst"
"""What `pusher pack` writes. It counts only if the file is a bundle: the next one would contain it."""
DEFAULTS = (*VERSION_CONTROL, *BUILT, *LITTER, *SECRETS, BUNDLE)
BACKUP = "*~"


class Verdict(NamedTuple):
    """Whether a path is ignored, by which pattern (empty: none matched), and whether that is the folder's own."""

    ignored: bool
    pattern: str = ""
    own: bool = False

    @property
    def included(self) -> bool:
        """Whether a pattern of the folder says that it is packed."""
        return self.own and not self.ignored


Decide = Callable[[str], Verdict]


class Rules(NamedTuple):
    """What decides about the paths in a folder; the path of a folder ends with a slash.

    `decide` must not be asked about paths beneath an ignored folder. `includes`: the folder has patterns of its
    own that include what would not be packed.
    """

    decide: Decide
    includes: bool


def rules(folder: Path) -> Rules:
    """The rules of a folder. Raises: Usage."""
    file = folder / IGNORE_NAME
    try:
        own = _lines(file)
        at_top = _decide([*DEFAULTS], own)
        # Anchored patterns match at the top alone. Deeper, only names count, unless a pattern has a slash.
        beneath = _decide([one for one in DEFAULTS if "/" not in one.rstrip("/")], own)
    except (OSError, ValueError, re.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Usage(f"{file} cannot be used", why=why) from error
    includes = any(line.startswith("!") for line in own)
    if any("/" in line.rstrip("/ ") for line in own):
        return Rules(at_top, includes)
    known: dict[str, Verdict] = {}  # Trees repeat names: each is matched once.

    def decide(path: str) -> Verdict:
        at = path.rfind("/", 0, -1) + 1
        if not at:
            return at_top(path)
        name = path[at:]
        found = known.get(name)
        if found is None:
            found = known[name] = beneath(name)
        return found

    return Rules(decide, includes)


def _decide(defaults: list[str], own: list[str]) -> Decide:
    # Imported here: only commands that pack need it.
    import pathspec

    patterns = [*defaults, *own]
    spec = pathspec.GitIgnoreSpec.from_lines(patterns)

    def decide(path: str) -> Verdict:
        found = spec.check_file(path)
        if found.index is None:
            return Verdict(False)
        return Verdict(bool(found.include), patterns[found.index].strip(), found.index >= len(defaults))

    return decide


def _lines(file: Path) -> list[str]:
    # A broken link is an error, not a missing file: what it should exclude must not be packed.
    if not os.path.lexists(file):
        return []
    if file.exists() and not file.is_file():
        raise ValueError("it is not a file")  # Reading a pipe could wait forever.
    # Like git, skip a byte order mark: with it, the first pattern would match nothing.
    return [line for line in file.read_text("utf-8-sig").splitlines() if line]
