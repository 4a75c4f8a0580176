"""What a `pylock.toml` of a release asks for (PEP 751): the names, versions and hashes in it, and nothing else.

Invariant: the file decides which packages a venv has, root decides where they come from. A URL in it is never
used, and what it names is installed without asking what that needs in turn. A wheel that travels in `wheels/` is
named by its path. Each statement is checked as if a requirements file had made it, and written anew for uv.

Format: https://packaging.python.org/specifications/pylock-toml/. `pusher` notes hashes whose files are not known
by name under `tool.pusher.hashes` of a package.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from packaging.markers import InvalidMarker, Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import InvalidName, InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from agent.core.pythons import admits, unadmitted
from agent.core.requirements.requirement import (
    BUILDS,
    BUILDS_HINT,
    HASHES_MOST,
    LINE_MOST,
    Requirement,
    parse_hashes,
    parse_requirement,
    unusable,
)
from agent.core.requirements.toml_text import parse_toml
from pusher.wire import Code, Failed

PYLOCK = "pylock.toml"
"""Its name, at the top of a release. If it is there, no other file of the release says what is installed."""

PACKAGES_MOST = 10_000
"""So many packages a lock may have."""

_SHOWN_MOST = 20
_SETS = ("extras", "dependency_groups")
_ELSEWHERE = ("vcs", "directory", "archive")
_PACK_HINT = "Pack it with `pusher`, which makes what the host can use"


@dataclass(frozen=True, slots=True)
class Lock:
    """What a lock says. `requires_python` is empty if it says nothing of it.

    `wheels`: the file names of the wheels of each package, where the lock names all of its files.
    """

    requirements: tuple[Requirement, ...]
    requires_python: str
    wheels: Mapping[str, Sequence[str]] = field(default_factory=dict)


def parse_pylock(text: str, *, wheels_only: bool) -> Lock:
    """The lock in `text`. Raises: Failed(dependencies_failed), naming the package, or all that have no wheel."""
    table = parse_toml(text, name=PYLOCK)
    version = table.get("lock-version")
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise unusable(PYLOCK, why=f"its lock-version is {_shown(version)}, and 1 is known here")
    packages = table.get("packages")
    if not isinstance(packages, list) or len(packages) > PACKAGES_MOST:
        raise unusable(PYLOCK, why=f"its packages are not a list of at most {PACKAGES_MOST}")
    if not all(isinstance(one, dict) for one in packages):
        raise unusable(PYLOCK, why="a package is not a table")
    wheels: dict[str, list[str]] = {}
    for one in packages:
        where = f"{PYLOCK}, {(name := _name(one.get('name')))}"
        if (names := _wheel_names(one, where)) or (_files(one, "sdist", where) and not _noted(one, where)):
            wheels.setdefault(name, []).extend(names)
    if wheels_only and (lacking := [name for name, names in wheels.items() if not names]):
        raise without_wheel(lacking)
    found = tuple(_package(one, wheels_only=wheels_only) for one in packages)
    return Lock(found, _requires_python(table.get("requires-python", "")), wheels)


def lacking_wheels(
    wheels: Mapping[str, Sequence[str]],
    requirements: Iterable[Requirement],
    *,
    tags: AbstractSet[Tag],
    environment: Mapping[str, str],
) -> list[str]:
    """The packages that are needed where `environment` holds (PEP 508), and have no wheel of these tags.

    `wheels`: the file names of the wheels of each package; one that is not named so may fit.
    """
    return [
        one.name
        for one in requirements
        if one.name in wheels
        and not any(_may_fit(name, tags) for name in wheels[one.name])
        and (not one.marker or Marker(one.marker).evaluate({**environment}))
    ]


def without_wheel(names: Sequence[str]) -> Failed:
    """The problem of packages that have no wheel, where only wheels are installed."""
    shown = [*names[:_SHOWN_MOST], f"{len(names) - _SHOWN_MOST} more"] if len(names) > _SHOWN_MOST else [*names]
    every = " and ".join(one for one in (", ".join(shown[:-1]), shown[-1]) if one)
    what = f"{every} {'has' if len(names) == 1 else 'have'} no wheel for this host"
    return Failed(Code.DEPENDENCIES_FAILED, what, why=BUILDS, hint=BUILDS_HINT)


def check_python(requires: str, *, python: str) -> None:
    """Refuse a Python that a release is not made for. `python`: its version, as `facts_argv` tells it first.

    Raises: Failed(dependencies_failed), naming both.
    """
    version = python.split()[0].rstrip("+")
    if not admits(requires, version):
        problem = unadmitted(requires, version)
        raise Failed(problem.code, problem.what, why=problem.why, hint=problem.hint)


def _package(table: Mapping[str, Any], *, wheels_only: bool) -> Requirement:
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
    paths = [file["path"] for file in (*wheels, *sdist) if "path" in file]
    if len(paths) > 1:
        raise unusable(where, why="it names several files of the release", hint=_PACK_HINT)
    target = f"{name} @ {_text(paths[0], where)}" if paths else f"{name}=={_version(table.get('version'), where)}"
    one = parse_requirement(f"{target} ; {marker}" if marker else target, where=where, wheels_only=wheels_only)
    return replace(one, hashes=parse_hashes((f"--hash={one}" for one in hashes), where=where))


def _wheel_names(table: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The file names of the wheels of a package."""
    files = _files(table, "wheels", where)
    named = (next((_text(one[key], where) for key in ("name", "path", "url") if key in one), "") for one in files)
    return tuple(unquote(one.partition("?")[0].rpartition("/")[2]) for one in named)


def _may_fit(name: str, tags: AbstractSet[Tag]) -> bool:
    try:
        return not tags.isdisjoint(parse_wheel_filename(name)[3])
    except InvalidWheelFilename:
        return True


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
