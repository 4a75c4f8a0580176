"""The build steps of a release: commands that make more of its files, such as collected assets or translations.

Invariant: they run in a copy of the release. Only what `paths` match comes out of it. A step that writes anything
else is an error: the app would run without it.

Both sides use this: the agent describes the steps, the workshop carries them out.
"""

import asyncio
import contextlib
import hashlib
import os
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.core.build_paths import build_path_matcher
from agent.core.environment import CLEAN_PATH
from agent.core.work_folder import VENV
from agent.host.ports import Lines

RELEASE = "release"
"""The copy of the release in the work folder. Its link `venv` leads to the venv beside it."""

STRAYS_MOST = 5
_ROOM = 64 * 1024 * 1024
_CHECK_S = 0.2

Run = Callable[[tuple[str, ...], Mapping[str, str], Lines], Awaitable[tuple[str, str]]]
"""Runs a command in the copy of the release, with its environment. Returns as `process.run`."""


@dataclass(frozen=True, slots=True)
class BuildSteps:
    """The commands, what they may make (`agent.core.build_paths`), their variables, and the time for all."""

    commands: tuple[tuple[str, ...], ...]
    paths: tuple[str, ...]
    environment: Mapping[str, str]
    deadline_s: float

    def members(self) -> dict[str, Any]:
        """It, as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StepsOutcome:
    """How the last command `step` ended ("" if well), its last lines, and what was written elsewhere."""

    ending: str
    said: str
    step: str = ""
    strays: tuple[str, ...] = ()


def steps_of(members: Mapping[str, Any]) -> BuildSteps:
    """The inverse of `BuildSteps.members`."""
    return BuildSteps(
        commands=tuple(tuple(one) for one in members["commands"]),
        paths=tuple(members["paths"]),
        environment=dict(members["environment"]),
        deadline_s=float(members["deadline_s"]),
    )


class Copy:
    """The copy of a release as it was before its steps ran. Everything here blocks."""

    def __init__(self, folder: Path, paths: tuple[str, ...]) -> None:
        self._folder = folder
        self._matches = build_path_matcher(paths)
        self._before = {path: (_mark(where), self._digest(path, where)) for path, where in _leaves(folder)}

    def made(self) -> tuple[list[str], list[str]]:
        """What the steps have made within their paths; and what else they have made, changed or removed."""
        made: list[str] = []
        strays: list[str] = []
        after = dict(_leaves(self._folder))
        for path, where in sorted(after.items()):
            before = self._before.get(path)
            if before is None:
                (made if self._matches(path) and _is_plain(where) else strays).append(path)
            elif before[0] != _mark(where) and (not before[1] or before[1] != self._digest(path, where)):
                strays.append(path)
        strays += sorted(path for path in self._before if path not in after)
        return made, strays

    def _digest(self, path: str, where: Path) -> str:
        """The digest of a file that the steps may write anew as it was; for others, the mark is enough."""
        if not self._matches(path) or not _is_plain(where):
            return ""
        return hashlib.sha256(where.read_bytes()).hexdigest()


async def carry_out_steps(
    steps: BuildSteps, *, folder: Path, run: Run, line: Lines
) -> tuple[StepsOutcome, list[str]]:
    """Run the commands in the work folder's copy of the release. Returns what came of it, and what they made.

    Raises: OSError, if a command cannot be started.
    """
    release = folder / RELEASE
    copy = await asyncio.to_thread(Copy, release, steps.paths)
    (folder / "home").mkdir(exist_ok=True)
    environment = {
        **steps.environment,
        "HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
        "PATH": f"{release}/venv/bin:{CLEAN_PATH}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "VIRTUAL_ENV": f"{release}/venv",
    }
    for command in steps.commands:
        words = " ".join(command)
        line(f"$ {words}")
        ending, said = await _unless_full(run(command, environment, line), folder)
        if ending:
            return StepsOutcome(ending, said, words), []
    made, strays = await asyncio.to_thread(copy.made)
    if strays:
        return StepsOutcome("", "", words, tuple(strays[:STRAYS_MOST])), []
    return StepsOutcome("", "", words), made


async def _unless_full(running: Awaitable[tuple[str, str]], folder: Path) -> tuple[str, str]:
    """As it came out, or, when hardly any room is left on the disk, ended there."""
    work = asyncio.ensure_future(running)
    while not work.done():
        await asyncio.wait({work}, timeout=_CHECK_S)
        state = os.statvfs(folder)
        if not work.done() and state.f_bavail * state.f_frsize < _ROOM:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            return "it was ended, for it had filled the disk", ""
    return work.result()


def _leaves(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every path beneath the copy that is no folder, without the venv and without byte code."""
    for above, folders, files in os.walk(folder):
        inside = os.path.relpath(above, folder)
        folders[:] = [one for one in folders if one != "__pycache__"]
        for name in [*files, *(one for one in folders if os.path.islink(f"{above}/{one}"))]:
            path = name if inside == "." else f"{inside}/{name}"
            if path != VENV:
                yield path, Path(above, name)


def _mark(path: Path) -> tuple[int, ...]:
    found = path.lstat()
    return (found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino)


def _is_plain(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)
