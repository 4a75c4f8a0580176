"""The packages that a folder's own files name, without asking an index: enough to know which web server it has.

Invariant: nothing is resolved, so what a package needs in turn is not among them, but for the extras that bring a
web server.
"""

import contextlib
import re
from pathlib import Path

from packaging.utils import canonicalize_name

_REQUIREMENT = re.compile(
    r"^\s*[\"']?([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?\s*(?:[=<>!~;,\"'\s]|$)", re.M
)
_FILES = (
    "requirements*.txt",
    "requirements/*.txt",
    "requirements.in",
    "pyproject.toml",
    "Pipfile",
    "poetry.lock",
    "uv.lock",
)
_BRINGS = {("fastapi", "standard"): "uvicorn", ("fastapi", "all"): "uvicorn"}
"""https://fastapi.tiangolo.com/tutorial/#install-fastapi: how its documents say that it is installed."""


def named_packages(folder: Path) -> tuple[str, ...]:
    """The normalized names at the beginning of lines in the files that name dependencies."""
    names: set[str] = set()
    for pattern in _FILES:
        for file in folder.glob(pattern):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                text = file.read_text("utf-8-sig")
                for match in _REQUIREMENT.finditer(text):
                    name = canonicalize_name(match[1])
                    extras = [one.strip().lower() for one in (match[2] or "").split(",")]
                    names |= {name, *(_BRINGS[name, one] for one in extras if (name, one) in _BRINGS)}
                names |= {canonicalize_name(name) for name in re.findall(r'^name = "([^"]+)"', text, re.M)}
    return tuple(sorted(names))
