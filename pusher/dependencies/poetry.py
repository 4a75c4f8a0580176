"""A `poetry.lock`, turned into a lock of the standard: what the main group and the wanted ones and extras need.

Invariant: every package of the result has the version and the hashes that Poetry locked. Since Poetry 2 the lock
says for each package in which groups it is needed, and when; before, that is found by following what needs what.

Format: https://github.com/python-poetry/poetry-core; lock-version 1.1 to 2.1.
"""

import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pusher.dependencies.choice import project_table
from pusher.dependencies.conditions import allows, both, decided_extras, either, specifiers
from pusher.dependencies.lock import Lock, LockedFile, Package
from pusher.errors import Usage

_MAIN = "main"
_STEPS_MOST = 50_000

Wanted = tuple[str, str, str, frozenset[str]]
"""What is asked for: a name, a constraint, a condition, extras."""


def read_poetry(file: Path, *, extras: Collection[str], groups: Collection[str]) -> Lock:
    """The lock in `file`, which must fit the project beside it. Raises: Usage."""
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Usage(f"{file} cannot be read", why=str(error)) from error
    with _understood(file):
        return _read(table, project_table(file.parent), file, extras=extras, groups=groups)


def _read(
    table: Mapping[str, Any],
    project: Mapping[str, Any],
    file: Path,
    *,
    extras: Collection[str],
    groups: Collection[str],
) -> Lock:
    packages: list[dict[str, Any]] = table.get("package", [])
    known_extras = {*table.get("extras", {}), *project.get("project", {}).get("optional-dependencies", {})}
    if unknown := {*extras} - known_extras:
        raise Usage(f"{file} has no extras {', '.join(sorted(unknown))}", hint=_known(known_extras))
    # Poetry writes their names so into the lock, whatever the project calls them.
    chosen: set[str] = {_MAIN, *map(canonicalize_name, groups)}
    known_groups: set[str] = {*map(canonicalize_name, _groups(project))}
    if unknown := chosen - {_MAIN, *known_groups}:
        raise Usage(f"{file} has no groups {', '.join(sorted(unknown))}", hint=_known(known_groups))
    wanted = list(_wanted(project, chosen, extras))
    _check(wanted, packages, file)
    metadata = table.get("metadata", {})
    if all("groups" in one for one in packages) and packages:
        found = list(_by_groups(packages, chosen, extras))
    else:
        found = list(_by_need(packages, wanted, table.get("files", metadata.get("files", {}))))
    python = specifiers(str(metadata.get("python-versions", "")))
    return Lock(tuple(found), str(python[0]) if len(python) == 1 else "")


def poetry_project(folder: Path) -> list[Package]:
    """The project itself, where Poetry would install it: it is in package mode, and its package is there.

    Raises: Usage.
    """
    project: dict[str, Any] = project_table(folder)
    with _understood(folder / "pyproject.toml"):
        poetry = project.get("tool", {}).get("poetry", {})
        name = str(project.get("project", {}).get("name") or poetry.get("name") or "")
    module = canonicalize_name(name).replace("-", "_")
    there = any((folder / one).exists() for one in (module, f"src/{module}", f"{module}.py", f"src/{module}.py"))
    if not name or poetry.get("package-mode") is False or not (there or poetry.get("packages")):
        return []
    return [Package(canonicalize_name(name), origin={"directory": {"path": "."}})]


@contextmanager
def _understood(file: Path) -> Iterator[None]:
    """What is not as Poetry writes it, as Usage."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # InvalidMarker is a ValueError
        why = f"it, or the pyproject.toml beside it, is not as Poetry has it: {error}"
        raise Usage(f"{file} cannot be used", why=why) from error


def _known(names: Collection[str]) -> str:
    return f"It has: {', '.join(sorted(names))}" if names else ""


def _groups(project: Mapping[str, Any]) -> Iterator[str]:
    """The groups of a project: Poetry's, those of the standard (PEP 735), and `dev` as before Poetry 1.2."""
    poetry = project.get("tool", {}).get("poetry", {})
    yield from poetry.get("group", {})
    yield from project.get("dependency-groups", {})
    if "dev-dependencies" in poetry:
        yield "dev"


def _wanted(project: Mapping[str, Any], groups: Collection[str], extras: Collection[str]) -> Iterator[Wanted]:
    standard, poetry = project.get("project", {}), project.get("tool", {}).get("poetry", {})
    optional = [one for name in extras for one in standard.get("optional-dependencies", {}).get(name, [])]
    for text in [*standard.get("dependencies", []), *optional]:
        try:
            one = Requirement(text)
        except InvalidRequirement:
            continue  # Poetry itself would not have locked it
        yield canonicalize_name(one.name), str(one.specifier), str(one.marker or ""), frozenset(one.extras)
    in_extras = {canonicalize_name(one) for name in extras for one in poetry.get("extras", {}).get(name, [])}
    tables = [poetry.get("dependencies", {})]
    tables += [
        one.get("dependencies", {})
        for name, one in poetry.get("group", {}).items()
        if canonicalize_name(name) in groups
    ]
    for name, stated in (pair for one in tables for pair in one.items()):
        normal = canonicalize_name(name)
        for table in _stated(stated):
            if name != "python" and (not table.get("optional") or normal in in_extras):
                extra = frozenset(table.get("extras", []))
                yield normal, str(table.get("version", "")), str(table.get("markers", "")), extra


def _stated(value: Any) -> list[dict[str, Any]]:
    every = value if isinstance(value, list) else [value]
    return [one if isinstance(one, dict) else {"version": one} for one in every]


def _check(wanted: list[Wanted], packages: list[dict[str, Any]], file: Path) -> None:
    """Refuse a lock without something that the project wants, or with another version than it allows."""
    locked: dict[str, list[str]] = {}
    for one in packages:
        locked.setdefault(canonicalize_name(one["name"]), []).append(one["version"])
    for name, constraint, _, _ in wanted:
        versions = locked.get(name, [])
        if not any(allows(constraint, version) for version in versions):
            has = f"it has {', '.join(versions)}" if versions else "the lock lacks it"
            raise Usage(
                f"{file} does not fit its pyproject.toml",
                why=f"{name} {constraint} is wanted, and {has}".replace("  ", " "),
                hint="poetry lock",
            )


def _by_groups(packages: list[dict[str, Any]], groups: set[str], extras: Collection[str]) -> Iterator[Package]:
    for one in packages:
        needed = [group for group in one["groups"] if canonicalize_name(group) in groups]
        if not needed:
            continue
        stated = one.get("markers", "")
        texts = [stated.get(group, "") if isinstance(stated, dict) else stated for group in needed]
        conditions = [text for raw in texts if (text := decided_extras(raw, extras=extras)) is not None]
        if conditions:
            yield _package(one, either(conditions), one.get("files", []))


def _by_need(packages: list[dict[str, Any]], wanted: list[Wanted], files: Mapping[str, Any]) -> Iterator[Package]:
    named: dict[str, list[dict[str, Any]]] = {}
    for one in packages:
        named.setdefault(canonicalize_name(one["name"]), []).append(one)
    conditions: dict[tuple[str, str], set[str]] = {}
    seen: set[Wanted] = set()
    waiting = [*wanted]
    while waiting and len(seen) < _STEPS_MOST:
        step = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        name, constraint, condition, extras = step
        fitting = [one for one in named.get(name, []) if allows(constraint, one["version"])]
        for one in fitting:
            conditions.setdefault((name, one["version"]), set()).add(condition)
            for needed, stated in one.get("dependencies", {}).items():
                for edge in _stated(stated):
                    marker = decided_extras(str(edge.get("markers", "")), extras=extras)
                    if marker is not None:
                        more = frozenset(edge.get("extras", []))
                        version = str(edge.get("version", ""))
                        waiting.append((canonicalize_name(needed), version, both(condition, marker), more))
    for one in packages:
        name = canonicalize_name(one["name"])
        if found := conditions.get((name, one["version"])):
            yield _package(one, either(found), one.get("files") or files.get(one["name"], []))


def _package(table: Mapping[str, Any], marker: str, files: list[dict[str, Any]]) -> Package:
    source = table.get("source", {})
    return Package(
        name=canonicalize_name(table["name"]),
        version=table["version"],
        marker=marker,
        files=tuple(LockedFile(str(one["file"]), (str(one["hash"]),)) for one in files),
        origin=_origin(source),
    )


def _origin(source: Mapping[str, Any]) -> dict[str, Any] | None:
    match source.get("type", "legacy"):
        case "directory":
            return {"directory": {"path": source["url"]}}
        case "git":
            where = {"type": "git", "url": source["url"], "commit-id": source["resolved_reference"]}
            return {"vcs": {**where, "subdirectory": source.get("subdirectory", "")}}
        case "url":
            return {"archive": {"url": source["url"]}}
        case "file":
            return {"archive": {"path": source["url"]}}
        case _:
            return None
