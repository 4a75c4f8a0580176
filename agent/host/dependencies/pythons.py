"""The interpreters of this host: where they lie, what they say of themselves, and which one a release gets.

Invariant: only what root has put into place is run: what root names, what lies in the folders of the system, and
root's own folder of managed Pythons. Each is run without what was installed into it, and asked again only when its
file has changed.
"""

import asyncio
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.core.environment import CLEAN_PATH
from agent.core.pythons import (
    DEFAULT_PYTHON,
    Python,
    admits,
    missing,
    of_requirement,
    of_version,
    oldest_admitted,
    real_path,
    upgraded,
    why_lost,
)
from agent.core.venv import COMPLETE, facts_argv
from agent.host.run import process
from pusher.wire import Code, Refused

SYSTEM_FOLDERS = (Path("/usr/bin"), Path("/usr/local/bin"))
"""Where the system's interpreters lie, in the order in which they are preferred."""

_NAME = re.compile(r"python3\.[0-9]+", re.ASCII)
_FACTS_DEADLINE_S = 30.0
_ENVIRONMENT = {"PATH": CLEAN_PATH, "LANG": "C.UTF-8", "HOME": "/nonexistent"}


class Pythons:
    """The interpreters of a host. `managed` is root's folder of them; `root` is only for what people are told."""

    def __init__(
        self,
        managed: Path | None = None,
        *,
        root: Path = Path("/"),
        system: Sequence[Path] = SYSTEM_FOLDERS,
        environment: Mapping[str, str] = _ENVIRONMENT,
    ) -> None:
        self._managed = managed
        self._root = root
        self._system = system
        self._environment = environment
        self._facts: dict[tuple[object, ...], str] = {}

    async def choose(self, setting: str, *, named: str = "", requires: str = "") -> Python:
        """The interpreter for a release: what the host's `setting` says (a path or a version), else the version
        `named` by the release, else the default, or the oldest other one that `requires` admits.

        Raises: Refused(configuration, dependencies_failed), if there is none.
        """
        if setting.startswith("/"):
            return await self.at(setting)
        if wanted := setting or named:
            found = await self.found()
            if one := of_version(wanted, found, exact=bool(setting)):
                return one
            by = "The app's file asks for" if setting else "The release asks for"
            raise missing(wanted, found, by=by, root=self._root)
        try:
            default: Python | None = await self.at(DEFAULT_PYTHON)
        except Refused:
            default = None
        if default and admits(requires, default.version):
            return default
        found = await self.found()
        if one := of_requirement(requires, found):
            return one
        everywhere = [default, *found] if default else found
        wanted = oldest_admitted(requires) or requires
        by = f"The release needs Python {requires}, so it asks for" if requires else "The release asks for"
        raise missing(wanted, everywhere, by=by, root=self._root)

    async def at(self, path: str) -> Python:
        """The interpreter at a path. Raises: Refused(configuration)."""
        try:
            return Python(path, await self._ask(path))
        except OSError as error:
            raise Refused(
                Code.CONFIGURATION,
                f"The Python {path} cannot be run",
                why=error.strerror or str(error),
                hint="Install it, or set `python` in [dependencies]",
            ) from error

    async def found(self) -> list[Python]:
        """Every interpreter that has its version in its name: root's managed ones first, newest first."""
        paths = await asyncio.to_thread(self._paths)
        every = await asyncio.gather(*(self._known(path) for path in paths))
        return [one for one in every if one]

    async def why_lost(self, venv: Path) -> str:
        """Why a venv does not run any more, because of its Python; empty if it does, or is not there."""
        made_with = await asyncio.to_thread(_made_with, venv)
        if made_with is None:
            return ""
        link, now = await self._today(venv, made_with)
        return why_lost(made_with, now, link=link)

    async def upgraded(self, venv: Path) -> tuple[str, str]:
        """The version of a venv's Python when it was made, and now, if these differ and it runs; else empty."""
        made_with = await asyncio.to_thread(_made_with, venv)
        if made_with is None:
            return "", ""
        _, now = await self._today(venv, made_with)
        before = upgraded(made_with, now)
        return (before, now.version) if before and now else ("", "")

    async def _today(self, venv: Path, made_with: str) -> tuple[str, Python | None]:
        """Where the venv's own link leads, and what the Python that it was made with is now."""
        link = await asyncio.to_thread(os.path.realpath, venv / "bin/python")
        return link, await self._known(real_path(made_with) or link)

    async def _known(self, path: str) -> Python | None:
        try:
            return Python(path, await self._ask(path))
        except OSError:
            return None

    async def _ask(self, path: str) -> str:
        """What build an interpreter is, asked again when its file has changed. Raises: OSError."""
        real = await asyncio.to_thread(os.path.realpath, path)
        stat = await asyncio.to_thread(os.stat, real)
        known = (real, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if known not in self._facts:
            ending, said = await process.run(
                facts_argv(path),
                folder=Path("/"),
                environment=self._environment,
                deadline_s=_FACTS_DEADLINE_S,
                line=_nobody,
            )
            if ending:
                raise OSError(f"{ending}\n{said}")
            self._facts[known] = said
        return self._facts[known]

    def _paths(self) -> list[str]:
        managed = [] if self._managed is None else [one / "bin" for one in managed_folders(self._managed)]
        found: dict[str, str] = {}
        for folder in (*managed, *self._system):
            for path in interpreters(folder):
                found.setdefault(os.path.realpath(path), str(path))
        return [*found.values()]


def managed_folders(managed: Path) -> list[Path]:
    """The folders of root's managed Pythons, the newest version first. Links to them are left out."""
    try:
        folders = [one for one in managed.iterdir() if one.is_dir() and not one.is_symlink()]
    except OSError:
        return []
    return sorted((one for one in folders if not one.name.startswith(".")), key=_numbers, reverse=True)


def interpreters(folder: Path) -> list[Path]:
    """The interpreters in a folder of programs that have their version in their name, the newest first."""
    try:
        found = [one for one in folder.iterdir() if _NAME.fullmatch(one.name) and os.access(one, os.X_OK)]
    except OSError:
        return []
    return sorted(found, key=_numbers, reverse=True)


def _numbers(path: Path) -> list[int]:
    return [int(one) for one in re.findall(r"[0-9]+", path.name)]


def _made_with(venv: Path) -> str | None:
    """The facts of the Python that a venv was made with; None if there is no such venv."""
    try:
        mark = json.loads((venv / COMPLETE).read_bytes())
    except (OSError, ValueError):
        return None
    facts = mark.get("python", "") if isinstance(mark, dict) else ""
    return facts if isinstance(facts, str) else ""


def _nobody(_: str) -> None:
    pass
