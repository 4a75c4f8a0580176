"""Which file of a version says what it depends on.

Invariant: the same folder always gives the same answer, and a choice between equals is the user's.
"""

import tomllib
from pathlib import Path

from pusher.dependencies.lock import PYLOCK
from pusher.errors import Usage

LOCKS = (PYLOCK, "uv.lock", "poetry.lock", "Pipfile.lock")
_NAMES = ("prod", "production", "base", "web", "app")
_WHERE = "Name it in pusher.toml, under [dependencies]: file = "


def choose(folder: Path, *, named: str = "") -> Path | None:
    """The file that decides, or None if the folder has none. `named` is what the user said. Raises: Usage."""
    if named:
        if not (folder / named).is_file():
            raise Usage(f"{folder} has no {named}", why="pusher.toml says that it has the dependencies")
        return folder / named
    for name in (*LOCKS, "requirements.txt"):
        if (folder / name).is_file():
            return folder / name
    if (workspace := _workspace_lock(folder)) is not None:
        return workspace
    found = sorted([*folder.glob("requirements*.txt"), *folder.glob("requirements/*.txt")])
    if (folder / "requirements.in").is_file() and not found:
        found = [folder / "requirements.in"]
    for name in _NAMES:
        if matching := [one for one in found if one.stem.removeprefix("requirements").strip("-_.") == name]:
            return matching[0]
    if len(found) == 1:
        return found[0]
    if (folder / "pyproject.toml").is_file() and "project" in project_table(folder):
        return folder / "pyproject.toml"
    if found:
        names = ", ".join(str(one.relative_to(folder)) for one in found[:5])
        example = found[0].relative_to(folder)
        raise Usage(f"{folder} has several requirements files", why=names, hint=f'{_WHERE}"{example}"')
    return None


def project_table(folder: Path) -> dict[str, object]:
    """The `pyproject.toml` of a folder; empty if there is none. Raises: Usage."""
    return _table(folder / "pyproject.toml")


def _table(file: Path) -> dict[str, object]:
    """The content of a TOML file; empty if there is none. Raises: Usage."""
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Usage(f"{file} cannot be read", why=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Usage(f"{file} is not TOML", why=str(error)) from error


def _workspace_lock(folder: Path) -> Path | None:
    """The uv.lock of the workspace that a folder is a member of."""
    project = project_table(folder).get("project")
    if not isinstance(project, dict):
        return None
    for above in folder.resolve().parents:
        if (above / "uv.lock").is_file():
            manifest = _table(above / "uv.lock").get("manifest")
            members = manifest.get("members", []) if isinstance(manifest, dict) else []
            return above / "uv.lock" if project.get("name") in members else None
    return None
