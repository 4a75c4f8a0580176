"""Hooks under systemd: the hook unit of the app runs what the agent has written down for it.

Invariant: whatever a hook is, it runs as the app's user in the unit that root has rendered. What it writes comes
through a FIFO that only the app's group may write to, and is read to its end, but no longer than the unit lives.
"""

import asyncio
import contextlib
import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path

from agent.core.config import AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.core.units import Units
from agent.host.ports import Lines
from agent.host.run.process import OutputLines
from agent.host.systemd import systemctl
from pusher.wire import Failed

_GRACE_S = 0.2
_STOP_S = 30.0
_START_S = 30.0
_READ = 64 * 1024


class SystemdHookRunner:
    """`HookRunner` for one app."""

    def __init__(self, app: str, config: AppConfig, *, host: HostLayout) -> None:
        self._unit = Units.of(app).hook
        self._layout = AppLayout(host.beneath(config.path))

    async def run(
        self,
        executable: Path,
        *,
        folder: Path,
        environment: Mapping[str, str],
        deadline_s: float,
        line: Lines,
    ) -> str:
        script = hook_script(executable, folder=folder, environment=environment, output=self._layout.hook_output)
        output = OutputLines(line)
        try:
            await asyncio.to_thread(write_private, self._layout.hook, script)
            with await asyncio.to_thread(_Fifo, self._layout.hook_output) as fifo:
                fifo.feed(output)
                ending = await self._run_unit(deadline_s)
                await fifo.drained()
        except OSError as error:
            return f"it could not be started ({error})"
        output.close()
        return ending

    async def _run_unit(self, deadline_s: float) -> str:
        """Not `start`: one that a dead agent left running would be taken for ours."""
        try:
            async with asyncio.timeout(deadline_s):
                await systemctl.tell("restart", self._unit, deadline_s=deadline_s + _START_S)
            return ""
        except TimeoutError:
            return f"no end after {deadline_s:g} s"
        except Failed as problem:
            return await self._why(problem)
        finally:
            # One that did not end must not outlive this call, however the call itself ends.
            await asyncio.shield(self._tidy())

    async def _why(self, problem: Failed) -> str:
        try:
            state = (await systemctl.look(self._unit))[self._unit]
        except Failed:
            return f"{problem.what}: {problem.why}"
        return state.why if state.result not in ("", "success") else f"{problem.what}: {problem.why}"

    async def _tidy(self) -> None:
        with contextlib.suppress(Failed):
            state = (await systemctl.look(self._unit))[self._unit]
            if state.active in ("activating", "deactivating", "active"):
                await systemctl.tell("stop", self._unit, deadline_s=_STOP_S)
            if state.active == "failed":
                await systemctl.tell("reset-failed", self._unit, deadline_s=_STOP_S)


def hook_script(executable: Path, *, folder: Path, environment: Mapping[str, str], output: Path) -> str:
    """What /bin/sh reads in the hook unit: where the output goes, the folder, the variables, then the hook."""
    variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(environment.items()))
    venv = shlex.quote(str(folder / "venv"))
    return (
        f"exec >{shlex.quote(str(output))} 2>&1 </dev/null || exit 1\n"
        f"cd {shlex.quote(str(folder))} || exit 1\n"
        f"{variables}"
        f"export VIRTUAL_ENV={venv} PATH={venv}/bin:$PATH\n"
        f"exec {shlex.quote(str(executable))}\n"
    )


def write_private(path: Path, text: str) -> None:
    """A file for the app's group to read, replaced in one go. Blocking. Raises: OSError."""
    descriptor, fresh = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o640)
    os.replace(fresh, path)


class _Fifo:
    """A FIFO made anew, and read while the context lasts. Its folder's group is the app's (setgid)."""

    def __init__(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        os.mkfifo(path, 0o600)
        os.chmod(path, 0o620)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # While this end is open, the reading one does not see an end between two writers.
        self._writing: int | None = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._ended = asyncio.Event()

    def __enter__(self) -> "_Fifo":
        return self

    def __exit__(self, *_: object) -> None:
        self._close_writing()
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def feed(self, output: OutputLines) -> None:
        """From now on, what arrives goes to `output`."""
        asyncio.get_running_loop().add_reader(self._descriptor, self._read, output)

    async def drained(self) -> None:
        """All that was written has been read; or somebody holds it open, and that is long enough."""
        self._close_writing()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await self._ended.wait()

    def _read(self, output: OutputLines) -> None:
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return
        if data:
            output.feed(data)
        else:
            self._ended.set()
            asyncio.get_running_loop().remove_reader(self._descriptor)

    def _close_writing(self) -> None:
        if self._writing is not None:
            os.close(self._writing)
            self._writing = None
