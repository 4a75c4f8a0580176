"""What a `pylock.toml` of a release asks for (PEP 751): the names, versions and hashes in it, and nothing else.

Invariant: the file decides which packages a venv has, root decides where they come from. A URL in it is never
used, and what it names is installed without asking what that needs in turn. A wheel that travels in `wheels/` is
named by its path. Each statement is checked as if a requirements file had made it, and written anew for uv.

Format: https://packaging.python.org/specifications/pylock-toml/. `pusher` notes hashes whose files are not known
by name under `tool.pusher.hashes` of a package.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from packaging.markers import InvalidMarker, Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from agent.core.requirement_lines import (
    BUILDS,
    BUILDS_HINT,
    HASHES_MOST,
    LINE_MOST,
    Requirement,
    parse_hashes,
    parse_requirement,
    unusable,
)
from agent.core.toml_text import parse_toml
from pusher.wire import Code, Failed

PYLOCK = "pylock.toml"
"""Its name, at the top of a release. If it is there, no other file of the release says what is installed."""

PACKAGES_MOST = 10_000
"""So many packages a lock may have."""

_SETS = ("extras", "dependency_groups")
_ELSEWHERE = ("vcs", "directory", "archive")
_PACK_HINT = "Pack it with `pusher`, which makes what the host can use"


@dataclass(frozen=True, slots=True)
class Lock:
    """What a lock says. `requires_python` is empty if it says nothing of it."""

    requirements: tuple[Requirement, ...]
    requires_python: str


def parse_pylock(text: str, *, wheels_only: bool) -> Lock:
    """The lock in `text`. Raises: Failed(dependencies_failed), naming the package."""
    table = parse_toml(text, name=PYLOCK)
    version = table.get("lock-version")
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise unusable(PYLOCK, why=f"its lock-version is {_shown(version)}, and 1 is known here")
    packages = table.get("packages")
    if not isinstance(packages, list) or len(packages) > PACKAGES_MOST:
        raise unusable(PYLOCK, why=f"its packages are not a list of at most {PACKAGES_MOST}")
    found = tuple(_package(one, wheels_only=wheels_only) for one in packages)
    return Lock(found, _requires_python(table.get("requires-python", "")))


def check_python(requires: str, *, python: str) -> None:
    """Refuse a Python that a release is not made for. `python`: its version, as `facts_argv` tells it first.

    Raises: Failed(dependencies_failed), naming both.
    """
    version = python.split()[0].rstrip("+")
    if requires and not SpecifierSet(requires).contains(version, prereleases=True):
        raise Failed(
            Code.DEPENDENCIES_FAILED,
            f"The release needs Python {requires}, and this host has {version}",
            why="its lock was made for another Python",
            hint="Set `python` in [dependencies] of the app's file to one that fits, or lock it for this one",
        )


def _package(table: Any, *, wheels_only: bool) -> Requirement:
    if not isinstance(table, dict):
        raise unusable(PYLOCK, why="a package is not a table")
    name = _name(table.get("name"))
    where = f"{PYLOCK}, {name}"
    marker = _marker(table.get("marker", ""), where)
    if elsewhere := next((key for key in _ELSEWHERE if key in table), None):
        why = f"it comes from elsewhere than an index ({elsewhere})"
        raise unusable(where, why=why, hint=_PACK_HINT)
    wheels, sdist = _files(table, "wheels", where), _files(table, "sdist", where)
    noted = _noted(table, where)
    hashes = [one for file in (*wheels, *sdist) for one in _hashes(file, where)] + noted
    if not hashes:
        raise unusable(where, why="it has no hashes")
    if wheels_only and not wheels and not noted:
        raise unusable(where, why=BUILDS, hint=f"{BUILDS_HINT}, or pack it with --build-wheels")
    paths = [file["path"] for file in (*wheels, *sdist) if "path" in file]
    if len(paths) > 1:
        raise unusable(where, why="it names several files of the release", hint=_PACK_HINT)
    target = f"{name} @ {_text(paths[0], where)}" if paths else f"{name}=={_version(table.get('version'), where)}"
    one = parse_requirement(f"{target} ; {marker}" if marker else target, where=where, wheels_only=wheels_only)
    return replace(one, hashes=parse_hashes((f"--hash={one}" for one in hashes), where=where))


def _name(name: Any) -> str:
    try:
        return canonicalize_name(_text(name, PYLOCK), validate=True)
    except InvalidName as error:
        raise unusable(PYLOCK, why=f"{_shown(name)} is not the name of a package") from error


def _version(version: Any, where: str) -> str:
    try:
        return str(Version(_text(version, where)))
    except InvalidVersion as error:
        raise unusable(where, why=f"{_shown(version)} is not a version") from error


def _marker(marker: Any, where: str) -> str:
    text = _text(marker, where)
    if not text:
        return ""
    if any(one in text for one in _SETS):
        # Which of them are wanted is decided where the release is packed.
        why = f"its condition {_shown(text)} asks for extras or groups"
        raise unusable(where, why=why, hint=_PACK_HINT)
    try:
        return str(Marker(text))
    except (InvalidMarker, RecursionError) as error:
        raise unusable(where, why=f"{_shown(text)} is no condition") from error


def _requires_python(requires: Any) -> str:
    try:
        return str(SpecifierSet(_text(requires, PYLOCK)))
    except InvalidSpecifier as error:
        raise unusable(PYLOCK, why=f"its requires-python is {_shown(requires)}") from error


def _files(table: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """The files of a package: wheels are a list, a source archive is one table."""
    found = table.get(key, [])
    every = [found] if isinstance(found, dict) else found
    if not isinstance(every, list) or len(every) > HASHES_MOST or not all(isinstance(one, dict) for one in every):
        raise unusable(where, why=f"its {key} are not tables, or more than {HASHES_MOST}")
    return every


def _hashes(file: Mapping[str, Any], where: str) -> Iterator[str]:
    hashes = file.get("hashes")
    known = {} if not isinstance(hashes, dict) else hashes
    usable = {name: value for name, value in known.items() if name in ("sha256", "sha384", "sha512")}
    if not usable:
        raise unusable(where, why="a file of it has no SHA-2 hash")
    for algorithm, value in usable.items():
        yield f"{algorithm}:{_text(value, where)}"


def _noted(table: Mapping[str, Any], where: str) -> list[str]:
    tool = table.get("tool", {})
    own = tool.get("pusher", {}) if isinstance(tool, dict) else {}
    noted = own.get("hashes", []) if isinstance(own, dict) else None
    if not isinstance(noted, list):
        raise unusable(where, why="its tool.pusher.hashes are not a list")
    return [_text(one, where) for one in noted]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > LINE_MOST:
        raise unusable(where, why=f"{_shown(value)} is not a text of at most {LINE_MOST} characters")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "..."
