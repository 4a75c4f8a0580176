"""A `Pipfile.lock`, turned into a lock of the standard: its default packages, and those of the wanted categories.

Invariant: every package of the result has the version, the condition and the hashes that Pipenv locked.

Format: https://pipenv.pypa.io/, "Pipfile.lock specification" 6. It names hashes without their files.
"""

import json
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from pusher.dependencies.conditions import both
from pusher.dependencies.lock import Lock, Package
from pusher.errors import Usage


def read_pipenv(file: Path, *, groups: Collection[str]) -> Lock:
    """The lock in `file`, which must fit the Pipfile beside it. Raises: Usage."""
    try:
        table = json.loads(file.read_text("utf-8"))
        if unknown := {*groups} - table.keys():
            raise Usage(f"{file} has no category {', '.join(sorted(unknown))}")
        sections = {name: table.get(name, {}) for name in ("default", *groups)}
        packages = {name: one for section in sections.values() for name, one in section.items()}
        requires = table.get("_meta", {}).get("requires", {})
        pipfile = tomllib.loads((file.parent / "Pipfile").read_text("utf-8")) if _beside(file) else {}
        _check(pipfile, sections, file)
        found = tuple(_package(name, one) for name, one in packages.items())
        python = requires.get("python_full_version") or requires.get("python_version")
    except (OSError, ValueError, RecursionError) as error:
        raise Usage(f"{file} cannot be read", why=str(error)) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise Usage(f"{file} cannot be used", why=f"it is not as Pipenv writes it: {error}") from error
    return Lock(found, f">={python}" if python else "")


def _beside(file: Path) -> bool:
    return (file.parent / "Pipfile").is_file()


def _check(pipfile: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Refuse a lock without something that the Pipfile wants, or with another version than it allows."""
    for section, locked in sections.items():
        versions = {canonicalize_name(name): str(one.get("version", "")) for name, one in locked.items()}
        for name, stated in pipfile.get("packages" if section == "default" else section, {}).items():
            constraint = stated.get("version", "") if isinstance(stated, dict) else stated
            version = versions.get(canonicalize_name(name))
            if version is None or not _allows(constraint, version.removeprefix("==")):
                has = "the lock lacks it" if version is None else f"it has {version}"
                raise Usage(
                    f"{file} does not fit its Pipfile",
                    why=f"{name} {constraint} is wanted, and {has}",
                    hint="pipenv lock",
                )


def _allows(constraint: str, version: str) -> bool:
    try:
        return (
            constraint in ("", "*") or not version or SpecifierSet(constraint).contains(version, prereleases=True)
        )
    except InvalidSpecifier:
        return True


def _package(name: str, table: Mapping[str, Any]) -> Package:
    origin: dict[str, Any] | None = None
    if "git" in table:
        where = {"type": "git", "url": table["git"], "commit-id": table["ref"]}
        origin = {"vcs": {**where, "subdirectory": table.get("subdirectory", "")}}
    elif "path" in table:
        origin = {"directory": {"path": table["path"]}}
    elif "file" in table:
        origin = {"archive": {"url": table["file"]}}
    return Package(
        name=canonicalize_name(name),
        version=str(table.get("version", "")).removeprefix("=="),
        marker=both(str(table.get("markers", "")), ""),
        hashes=tuple(table.get("hashes", [])),
        origin=origin,
    )
