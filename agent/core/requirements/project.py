"""A project that has no requirements file: its `pyproject.toml`, or its `uv.lock`.

Invariant: nothing of it is built to find out what it needs.

Formats: https://packaging.python.org/specifications/pyproject-toml/ and
https://docs.astral.sh/uv/reference/settings/#sources.
"""

import posixpath
from collections.abc import Collection, Mapping
from typing import Any

from packaging.utils import canonicalize_name

from agent.core.requirements.files import ReleaseFiles
from agent.core.requirements.requirement import (
    BUILDS,
    BUILDS_HINT,
    INDEXES_HINT,
    OWN_CODE,
    OWN_CODE_HINT,
    Requirement,
    parse_requirement,
    unusable,
    with_source,
)

_OWN_CODE = frozenset({"workspace", "directory", "editable", "virtual"})
"""Sources that are code of the release, in the words of uv."""


def read_project(
    name: str, *, files: ReleaseFiles, wheels_only: bool, indexes: Collection[str]
) -> list[Requirement]:
    """What `[project]` of the file `name` depends on, from where `[tool.uv.sources]` takes it.

    `indexes`: names that root gave. Raises: Failed(dependencies_failed), naming the file.
    """
    table = files.toml(name)
    project = table.get("project")
    if not isinstance(project, dict):
        raise unusable(name, why="it has no [project] table")
    if "dependencies" in _list(project, "dynamic", name):
        raise unusable(
            name,
            why="its dependencies are dynamic, so only its build code could tell them",
            hint="List them in [project] dependencies, or use a requirements.txt",
        )
    sources = _table(_table(_table(table, "tool", name), "uv", name), "sources", name)
    targets = {
        canonicalize_name(package): target
        for package, source in sources.items()
        if (target := _target(source, f"{name}, {package}", indexes))
    }
    folder, found = posixpath.dirname(name), []
    for text in map(str, _list(project, "dependencies", name)):
        one = parse_requirement(text, where=name, wheels_only=wheels_only, folder=folder)
        if source := targets.get(canonicalize_name(one.name)):
            where = f"{name}, {one.name}"
            one = with_source(text, source, where=where, wheels_only=wheels_only, folder=folder)
        found.append(one)
    return found


def check_lock(name: str, *, files: ReleaseFiles, wheels_only: bool) -> None:
    """Read the lock `name` and its project. Raises: Failed(dependencies_failed), if uv must not export it."""
    files.toml(project_of(name))
    for package in _list(files.toml(name), "package", name):
        source = _table(package, "source", name)
        if source.get("virtual") != "." and source.get("editable") != ".":
            where = f"{name}, {package.get('name', '?')}"
            if _OWN_CODE & source.keys():
                raise unusable(where, why=OWN_CODE, hint=OWN_CODE_HINT)
            if "git" in source and wheels_only:
                raise unusable(where, why=BUILDS, hint=BUILDS_HINT)


def project_of(lock: str) -> str:
    """The file of the project that a `uv.lock` belongs to."""
    return posixpath.join(posixpath.dirname(lock), "pyproject.toml")


def _target(source: Any, where: str, indexes: Collection[str]) -> str:
    """Where [tool.uv.sources] takes a package from; empty for an index, which root has named."""
    every = source if isinstance(source, list) else [source]
    if not all(isinstance(one, dict) for one in every):
        raise unusable(where, why="its source is not a table")
    if every and all("index" in one for one in every):
        for one in every:
            if not isinstance(one["index"], str) or one["index"] not in indexes:
                why = f"the host has no index called {str(one['index'])[:100]!r}"
                raise unusable(where, why=why, hint=INDEXES_HINT)
        return ""
    if len(every) != 1 or "marker" in every[0]:
        raise unusable(where, why="it has several sources, or one under a condition", hint="Use a uv.lock")
    (one,) = every
    if _OWN_CODE & one.keys():
        raise unusable(where, why=OWN_CODE, hint=OWN_CODE_HINT)
    part = f"#subdirectory={one['subdirectory']}" if "subdirectory" in one else ""
    if "git" in one:
        revision = next((f"@{one[key]}" for key in ("rev", "tag", "branch") if key in one), "")
        return f"git+{one['git']}{revision}{part}"
    target = one.get("path") or one.get("url")
    if not isinstance(target, str):
        raise unusable(where, why="its source is of a kind that is not known here")
    return f"{target}{part}"


def _table(table: Any, key: str, where: str) -> dict[str, Any]:
    """The table `key` of what should be a table itself; empty if there is none."""
    found = table.get(key, {}) if isinstance(table, dict) else None
    if not isinstance(found, dict):
        raise unusable(where, why=f"its {key} is not a table, or does not stand in one")
    return found


def _list(table: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """The list `key` of a table; empty if there is none."""
    found = table.get(key, [])
    if not isinstance(found, list):
        raise unusable(where, why=f"its {key} is not a list")
    return found
