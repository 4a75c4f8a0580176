"""The files of a venv, as they were when it was made.

Invariant: the list is written once, before the venv gets its name, and its digest stands in the venv's mark. What
differs from it later was changed by somebody else than the agent.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from agent.core.venv import COMPLETE

LIST = ".installed"
"""The file with the list, in the venv: `sha256 mode "path"` for each file, with `link` as the mode for each link.

The path is JSON; the digest of a link is that of where it leads.
"""

_SLICE = 1024 * 1024
_IMPORTED = (".py", ".pyc", ".so", ".pth", ".zip", ".egg-link")
_NOT_LISTED = frozenset({LIST, COMPLETE})


def list_files(venv: Path) -> bytes:
    """The list of a venv as it lies there. Blocking. Raises: OSError."""
    return "".join(f"{line}\n" for line in sorted(_lines(venv))).encode()


def difference(venv: Path) -> str:
    """The first difference between a venv and what it was when it was made; empty if there is none. Blocking.

    A venv that was made before lists were kept has none, and is taken as it is.
    """
    try:
        mark = (venv / COMPLETE).read_bytes()
    except OSError:
        return f"its venv {venv.name} is gone"
    wanted = _digest_in(mark)
    if wanted is None:
        return ""
    try:
        kept = (venv / LIST).read_bytes()
        if hashlib.sha256(kept).hexdigest() != wanted:
            return f"{LIST} of its venv {venv.name} was changed"
        now = list_files(venv)
    except OSError as error:
        return f"its venv {venv.name} cannot be read: {error.strerror or error}"
    if now == kept:
        return ""
    before, after = _by_path(kept), _by_path(now)
    differing = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
    differing = [path for path in differing if path in before or _takes_part(path, after[path])]
    if not differing:
        return ""
    name = min(differing)
    became = "is gone from" if name not in after else "was added to" if name not in before else "was changed in"
    return f"{name} {became} its venv {venv.name}"


def mark_of(made_from: bytes, files: bytes) -> bytes:
    """What a venv's mark says: what it was made from (JSON), and the digest of the list of its files."""
    made = {**json.loads(made_from), "installed": hashlib.sha256(files).hexdigest()}
    return json.dumps(made, sort_keys=True, separators=(",", ":")).encode()


def _takes_part(path: str, what: str) -> bool:
    """Whether a file that was added has a part in what the venv runs: Python imports it, or looks for it.

    Byte code beside its module has none, nor what libraries keep beside their own files. Twisted does, wherever it
    may write: a rollback that was refused for that would be worse than the file.
    """
    if "/__pycache__/" in path:
        return False
    linked = what.endswith(" link")
    return linked or path.startswith("bin/") or path.endswith(_IMPORTED) or ".dist-info/" in path


def _digest_in(mark: bytes) -> str | None:
    try:
        found = json.loads(mark)["installed"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(found)


def _lines(venv: Path) -> Iterator[str]:
    top = os.fspath(venv)
    for above, folders, files in os.walk(top):
        for name in (*files, *folders):
            path = f"{above}/{name}"
            inside, found = path[len(top) + 1 :], os.lstat(path)
            if stat.S_ISLNK(found.st_mode):
                target = hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
                yield f"{target} link {json.dumps(inside)}"
            elif stat.S_ISREG(found.st_mode) and inside not in _NOT_LISTED:
                # Unbuffered: most files of a venv are small, and a rollback waits for this.
                with open(path, "rb", buffering=0) as file:
                    digest = hashlib.sha256()
                    while chunk := file.read(_SLICE):
                        digest.update(chunk)
                yield f"{digest.hexdigest()} {stat.S_IMODE(found.st_mode):o} {json.dumps(inside)}"


def _by_path(text: bytes) -> dict[str, str]:
    found = {}
    for line in text.decode().splitlines():
        what, how, path = line.split(" ", 2)
        found[str(json.loads(path))] = f"{what} {how}"
    return found
