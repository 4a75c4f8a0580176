"""Hooks under systemd: the app's hook unit runs a script that the agent writes.

Invariant: every hook runs as the app's user in the unit that root has rendered. Its output comes through a FIFO
that only the app's group may write to. It is read to its end, but hardly longer than the unit runs.
"""

import asyncio
import contextlib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.core.units import Units
from agent.host.ports import Lines
from agent.host.run.process import OutputLines
from agent.host.storage import volatile
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
        *arguments: str,
        folder: Path,
        environment: Mapping[str, str],
        deadline_s: float,
        line: Lines,
    ) -> str:
        script = hook_script(
            executable, *arguments, folder=folder, environment=environment, output=self._layout.hook_output
        )
        output = OutputLines(line)
        try:
            await asyncio.to_thread(volatile.write, self._layout.hook, script, mode=0o640)
            with await asyncio.to_thread(_Fifo, self._layout.hook_output) as fifo:
                fifo.feed(output)
                ending = await self._run_unit(deadline_s)
                await fifo.drained()
        except OSError as error:
            return f"it could not be started ({error})"
        output.close()
        return ending

    async def _run_unit(self, deadline_s: float) -> str:
        # Not `start`: a hook that a dead agent left running would be mistaken for this one.
        try:
            async with asyncio.timeout(deadline_s):
                await systemctl.control("restart", self._unit, deadline_s=deadline_s + _START_S)
            return ""
        except TimeoutError:
            return f"no end after {deadline_s:g} s"
        except Failed as problem:
            return await self._why(problem)
        finally:
            # A hook that did not end must not outlive this call, however the call itself ends.
            await asyncio.shield(self._end_unit())

    async def _why(self, problem: Failed) -> str:
        try:
            state = await systemctl.state_of(self._unit)
        except Failed:
            return f"{problem.what}: {problem.why}"
        return state.why if state.result not in ("", "success") else f"{problem.what}: {problem.why}"

    async def _end_unit(self) -> None:
        with contextlib.suppress(Failed):
            state = await systemctl.state_of(self._unit)
            if state.active in ("activating", "deactivating", "active"):
                await systemctl.control("stop", self._unit, deadline_s=_STOP_S)
                state = await systemctl.state_of(self._unit)  # one that had to be killed has failed by now
            if state.active == "failed":
                await systemctl.control("reset-failed", self._unit, deadline_s=_STOP_S)


def hook_script(
    executable: Path, *arguments: str, folder: Path, environment: Mapping[str, str], output: Path
) -> str:
    """The script of the hook unit, for /bin/sh: it sets output, folder and variables, then becomes the hook."""
    variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(environment.items()))
    venv = shlex.quote(str(folder / "venv"))
    return (
        f"exec >{shlex.quote(str(output))} 2>&1 </dev/null || exit 1\n"
        f"cd {shlex.quote(str(folder))} || exit 1\n"
        f"{variables}"
        f"export VIRTUAL_ENV={venv} PATH={venv}/bin:$PATH\n"
        f"exec {shlex.join((str(executable), *arguments))}\n"
    )


class _Fifo:
    """A fresh FIFO, read within the context. Its folder's group is the app's (setgid). Raises: OSError."""

    def __init__(self, path: Path) -> None:
        volatile.make_fifo(path, mode=0o620)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # While this end is open, the reader sees no end of file between two writers.
        self._writing: int | None = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._ended = asyncio.Event()

    def __enter__(self) -> "_Fifo":
        return self

    def __exit__(self, *_: object) -> None:
        self._close_writing()
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def feed(self, output: OutputLines) -> None:
        """Pass what arrives on to `output` from now on."""
        asyncio.get_running_loop().add_reader(self._descriptor, self._read, output)

    async def drained(self) -> None:
        """Wait until everything that was written is read; if a process holds the FIFO open, only for a moment."""
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
