"""Hooks: which executables run at one place of a plan, and running one as a child of the agent.

Invariant: an executable that has a hook's name and cannot be run is an error, never skipped in silence.
"""

import asyncio
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.core.config.app import AppConfig
from agent.core.layout import HOOKS_FOLDER, HostLayout
from agent.host.ports import Lines
from agent.host.run import process
from agent.host.run.launch import prepare_hook
from pusher.wire import Code, Failed, Problem

Origin = Literal["release", "host"]


@dataclass(frozen=True, slots=True)
class Hook:
    """One executable, and where it comes from."""

    path: Path
    origin: Origin


def find(name: str, *, release: Path, host: Path) -> list[Hook]:
    """The hooks of this name, in the order they run. Blocking.

    The host's hooks go around the release's: first where something begins (`before-`), last where it ends.
    Raises: Failed(hook_failed), for a hook that cannot be run.
    """
    found = [
        Hook(path, origin)
        for path, origin, inside in _places(name, release=release, host=host)
        if _runnable(path, inside=inside)
    ]
    return found if name.removeprefix("rollback-").startswith("before-") else found[::-1]


class EmbeddedHookRunner:
    """`HookRunner`: a hook is a child of the agent, in its own session, and ends with it."""

    def __init__(self, config: AppConfig, *, host: HostLayout) -> None:
        self._config = config
        self._host = host

    async def run(
        self,
        executable: Path,
        *arguments: str,
        folder: Path,
        environment: Mapping[str, str],
        deadline_s: float,
        line: Lines,
    ) -> str:
        try:
            launch = await asyncio.to_thread(
                prepare_hook, (str(executable), *arguments), self._config, folder, environment, host=self._host
            )
        except Problem as problem:
            return str(problem)
        try:
            ending, _ = await process.run(
                launch.argv,
                folder=launch.folder,
                environment=launch.environment,
                deadline_s=deadline_s,
                line=line,
            )
        except OSError as error:
            return f"it could not be started ({error.strerror})"
        return _CANNOT_RUN.get(ending, ending)


_CANNOT_RUN = {
    "exit code 126": "exit code 126: the app's user may not run it, or something it calls",
    "exit code 127": "exit code 127: the program in its first line (#!), or one it calls, does not exist",
}
"""What a shell's own exit codes mean (POSIX, Shell Command Language, 2.8.2)."""


def _places(name: str, *, release: Path, host: Path) -> Iterator[tuple[Path, Origin, Path | None]]:
    yield host / name, "host", None
    yield release / HOOKS_FOLDER / name, "release", release


def _runnable(path: Path, *, inside: Path | None) -> bool:
    """Whether there is a hook at `path`. Raises: Failed(hook_failed), if there is one that cannot be run."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        why = f"its folder cannot be read: {error.strerror}"
        raise _unfit(path, why=why, hint="Let the agent's user into its folder") from error
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
        start = _beginning(real) if stat.S_ISREG(mode) else b""
    except (OSError, RuntimeError) as error:
        raise _unfit(path, why=f"it cannot be read: {error}") from error
    if inside is not None and not real.is_relative_to(inside.resolve()):
        raise _unfit(path, why="it is a link that leaves the release")
    if not stat.S_ISREG(mode):
        raise _unfit(path, why="it is not a regular file")
    if not mode & 0o111:
        raise _unfit(path, why="it is not executable", hint=f"chmod +x {path.name}, and send it again")
    # A shell would run a file with neither as its own script; systemd would not run it at all.
    if not start.startswith((b"#!", b"\x7fELF")):
        raise _unfit(path, why="it names no interpreter", hint="Begin it with a line like #!/bin/sh")
    # The kernel would look for a program whose name ends with CR, and report the hook itself as missing.
    if start.startswith(b"#!") and start.endswith(b"\r\n"):
        hint = f"Save {path.name} with Unix line endings, and send it again"
        raise _unfit(path, why="its lines end as on Windows (CR LF)", hint=hint)
    return True


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(256)  # as much as the kernel reads (BINPRM_BUF_SIZE)


def _unfit(path: Path, *, why: str, hint: str = "") -> Failed:
    return Failed(Code.HOOK_FAILED, f"The hook {path} cannot be run", why=why, hint=hint)
