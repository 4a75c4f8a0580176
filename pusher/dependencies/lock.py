"""A lock as it is read from what other tools wrote, and written for a host.

Invariant: what is written says of each package which version and which hashes, and needs no address: what comes
from elsewhere than an index lies in `wheels/`. The same lock gives the same bytes.

Format: PEP 751, https://packaging.python.org/specifications/pylock-toml/. Hashes of files whose names are not
known go into `tool.pusher.hashes` of their package.
"""

import json
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from packaging.markers import InvalidMarker
from packaging.utils import canonicalize_name

from pusher.bundle.commit import without_login
from pusher.dependencies.conditions import decided
from pusher.errors import Usage

PYLOCK = "pylock.toml"
WHEELS = "wheels"

_ELSEWHERE = ("directory", "vcs", "archive")


@dataclass(frozen=True, slots=True)
class LockedFile:
    """A file of a package. `hashes` are texts like `sha256:...`; `path` is set if it travels with the release."""

    name: str
    hashes: tuple[str, ...]
    url: str = ""
    path: str = ""

    @property
    def is_wheel(self) -> bool:
        return self.name.endswith(".whl")


@dataclass(frozen=True, slots=True)
class Package:
    """A package of a lock. `origin` is set while it comes from elsewhere than an index, as PEP 751 names it."""

    name: str
    version: str = ""
    marker: str = ""
    files: tuple[LockedFile, ...] = ()
    hashes: tuple[str, ...] = ()
    origin: Mapping[str, Any] | None = None

    @property
    def local(self) -> bool:
        """Whether its file travels with the release."""
        return any(file.path for file in self.files)


@dataclass(frozen=True, slots=True)
class Lock:
    """What is installed, and the Pythons it is for (a version specifier; empty: not said)."""

    packages: tuple[Package, ...] = ()
    requires_python: str = ""


def read_lock(text: str, *, name: str, extras: Collection[str] = (), groups: Collection[str] = ()) -> Lock:
    """The lock in `text`, with these extras and groups besides its default groups. Raises: Usage, naming it."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise Usage(f"{name} is not TOML", why=str(error)) from error
    packages, version = table.get("packages", []), str(table.get("lock-version", ""))
    if version.partition(".")[0] != "1" or not isinstance(packages, list):
        raise Usage(
            f"{name} cannot be used", why=f"its lock-version is {version or 'missing'}, and 1 is known here"
        )
    try:
        wanted: set[str] = {canonicalize_name(one) for one in extras}
        chosen: set[str] = {canonicalize_name(one) for one in (*groups, *table.get("default-groups", []))}
        for kind, names in (("extras", wanted), ("dependency-groups", {canonicalize_name(one) for one in groups})):
            known = {canonicalize_name(one) for one in table.get(kind, [])}
            if known and (missing := names - known):
                raise Usage(
                    f"{name} has no {kind} {', '.join(sorted(missing))}",
                    hint=f"It has: {', '.join(sorted(known))}",
                )
        found = tuple(_packages(packages, wanted, chosen))
    except (AttributeError, KeyError, TypeError, InvalidMarker) as error:
        raise Usage(f"{name} cannot be used", why=f"it is not as PEP 751 says: {error}") from error
    return Lock(found, str(table.get("requires-python", "")))


def write_lock(lock: Lock) -> str:
    """The `pylock.toml` for a host."""
    lines = ['lock-version = "1.0"', 'created-by = "pusher"']
    if lock.requires_python:
        lines.append(f"requires-python = {json.dumps(lock.requires_python)}")
    if not lock.packages:
        lines.append("packages = []")
    for one in sorted(lock.packages, key=lambda one: (one.name, one.version, one.marker)):
        lines += ["", "[[packages]]", *_written(one)]
    return "\n".join(lines) + "\n"


def note(lock: Lock) -> bytes:
    """The lock as it is kept for the next time: without wheels that no host can use, and fast to read."""
    packages = [asdict(replace(one, files=tuple(_usable(one)))) for one in lock.packages]
    # TOML has times, as that of an upload.
    return json.dumps({"requires_python": lock.requires_python, "packages": packages}, default=str).encode()


def noted(content: bytes) -> Lock:
    """The lock that was noted."""
    table = json.loads(content)
    packages = (
        Package(
            one["name"],
            one["version"],
            one["marker"],
            tuple(LockedFile(**{**file, "hashes": tuple(file["hashes"])}) for file in one["files"]),
            tuple(one["hashes"]),
            one["origin"],
        )
        for one in table["packages"]
    )
    return Lock(tuple(packages), table["requires_python"])


def _usable(package: Package) -> list[LockedFile]:
    """The files of a package that a host may use; all, if it has only others."""
    wheels = [file for file in package.files if file.is_wheel]
    usable = [file for file in wheels if _for_linux(file.name)] or wheels
    return [file for file in package.files if not file.is_wheel or file in usable]


def _packages(tables: list[Any], extras: set[str], groups: set[str]) -> Iterator[Package]:
    for table in tables:
        marker = _decided(table.get("marker", ""), {"extras": extras, "dependency_groups": groups})
        if marker is None:
            continue
        origin = next(({key: table[key]} for key in _ELSEWHERE if key in table), None)
        files = [*table.get("wheels", []), *([table["sdist"]] if "sdist" in table else [])]
        own = table.get("tool", {}).get("pusher", {}).get("hashes", [])
        yield Package(
            name=canonicalize_name(table["name"]),
            version=str(table.get("version", "")),
            marker=marker,
            files=tuple(map(_file, files)),
            hashes=tuple(own),
            origin=origin,
        )


def _file(table: Mapping[str, Any]) -> LockedFile:
    url, path = str(table.get("url", "")), str(table.get("path", ""))
    name = str(table.get("name") or (path or url).rpartition("/")[2])
    hashes = tuple(f"{kind}:{value}" for kind, value in sorted(table["hashes"].items()))
    return LockedFile(name, hashes, url, path)


def _decided(marker: str, sets: Mapping[str, set[str]]) -> str | None:
    """A condition without extras and groups, which are decided here; None, if it never holds."""

    def known(left: str, operator: str, right: str) -> bool | None:
        if right not in sets:
            return None
        return (canonicalize_name(left.strip("\"'")) in sets[right]) == (operator == "in")

    return decided(marker, known)


def _written(package: Package) -> Iterator[str]:
    yield f"name = {json.dumps(package.name)}"
    if package.version:
        yield f"version = {json.dumps(package.version)}"
    if package.marker:
        yield f"marker = {json.dumps(package.marker)}"
    files = _usable(package)
    usable = [file for file in files if file.is_wheel]
    for file in files:
        if not file.is_wheel:
            yield f"sdist = {_inline(file)}"
    if usable:
        yield "wheels = ["
        yield from (f"    {_inline(file)}," for file in sorted(usable, key=lambda file: file.name))
        yield "]"
    if package.hashes:
        yield f"tool.pusher.hashes = {json.dumps(sorted(package.hashes))}"


def _inline(file: LockedFile) -> str:
    url = without_login(file.url)
    where = f", path = {json.dumps(file.path)}" if file.path else f", url = {json.dumps(url)}" if url else ""
    hashes = ", ".join(
        f"{kind} = {json.dumps(value)}" for kind, _, value in (one.partition(":") for one in file.hashes)
    )
    return f"{{ name = {json.dumps(file.name)}{where}, hashes = {{ {hashes} }} }}"


def _for_linux(wheel: str) -> bool:
    """Whether a host may be able to use a wheel: the last part of its name says for which systems it is."""
    systems = wheel.removesuffix(".whl").rpartition("-")[2].split(".")
    return any(one == "any" or "linux" in one for one in systems)
