"""The packages that a folder's own files name, without asking an index: enough to know which web server it has.

Invariant: nothing is resolved, so what a package needs in turn is not among them, but for the extras that bring a
web server.
"""

import contextlib
import re
import tomllib
from collections.abc import Iterator
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
_BRINGS = {
    ("fastapi", "standard"): "uvicorn",
    ("fastapi", "all"): "uvicorn",
    ("litestar", "standard"): "uvicorn",
    ("quart", ""): "hypercorn",
    ("python-fasthtml", ""): "uvicorn",
}
"""What brings a web server, by package and extra (empty: in any case): https://fastapi.tiangolo.com/tutorial/,
https://docs.litestar.dev/latest/, and the requirements of Quart and FastHTML."""


def named_packages(folder: Path) -> tuple[str, ...]:
    """The normalized names at the beginning of lines in the files that name dependencies."""
    names: set[str] = set()
    for pattern in _FILES:
        for file in folder.glob(pattern):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                text = file.read_text("utf-8-sig")
                names |= {*_required(text)}
                names |= {canonicalize_name(name) for name in re.findall(r'^name = "([^"]+)"', text, re.M)}
                if file.name == "pyproject.toml":  # a list may stand in one line there
                    names |= {*_required("\n".join(_project(text)))}
    return tuple(sorted(names))


def _required(text: str) -> Iterator[str]:
    """The packages that lines begin with, and the web servers that these bring."""
    for match in _REQUIREMENT.finditer(text):
        name = canonicalize_name(match[1])
        yield name
        for extra in ("", *(match[2] or "").split(",")):
            if server := _BRINGS.get((name, extra.strip().lower())):
                yield server


def _project(text: str) -> Iterator[str]:
    """The requirements of a pyproject.toml, a line each: those of `[project]`, and Poetry's."""
    with contextlib.suppress(ValueError, RecursionError, AttributeError, TypeError):
        found = tomllib.loads(text)
        yield from map(str, found.get("project", {}).get("dependencies", ()))
        for name, said in found.get("tool", {}).get("poetry", {}).get("dependencies", {}).items():
            extras = said.get("extras", ()) if isinstance(said, dict) else ()
            yield f"{name}[{','.join(extras)}]"
