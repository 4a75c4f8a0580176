"""One worker of the embedded default: a runner without a socket, started again when it ends.

Invariant: it runs what `current` points at, and does not outlive the agent: the parent-death signal ends it. If
that fails, the next agent does, by a record of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from agent.core.backoff import Backoff
from agent.core.config.app import AppConfig
from agent.core.layout import HostLayout
from agent.core.processes import Instance
from agent.host.embedded import orphans
from agent.host.embedded.process import Main
from agent.host.embedded.runner import AppProcess, RunnerProcess
from agent.host.ports import Clock, Placed, ProcessState
from agent.host.run import process
from agent.host.run.ended import process_ended
from agent.host.run.launch import Launch, prepare_process
from pusher.wire import Code, Failed, Problem

_READY_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _STAYED_UP_S = 1.0, 30.0, 60.0

_log = structlog.get_logger()


class Worker:
    """A worker. `hear` gets each line that it writes. `folder` has the records of what runs."""

    def __init__(
        self,
        app: str,
        instance: Instance,
        config: AppConfig,
        *,
        host: HostLayout,
        clock: Clock,
        folder: Path,
        hear: Callable[[str], None],
    ) -> None:
        self._app = app
        self._instance = instance
        self._config = config
        self._host = host
        self._clock = clock
        self._folder = folder
        self._hear_line = hear
        self.process = instance.process
        self._runner: RunnerProcess | None = None
        self._main: Main | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._how = ""

    async def run(self, placed: Placed) -> Main:
        """As `SideProcesses.run`, for this one."""
        main = self._main
        if main is not None and not main.child.ended() and self._runs(placed):
            return main
        await self.end()
        main = await self._start(placed)
        self._watcher = asyncio.create_task(self._watch(main))
        return main

    async def end(self) -> None:
        """End it, and start it no more. Idempotent."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
            self._watcher = None
        if self._main is not None:
            await self._main.end()
            self._main = None

    def state(self) -> ProcessState:
        name = self._instance.name
        status = self._runner.status if self._runner else None
        if self._main is None or self._main.child.ended() or status is None:
            return ProcessState(name=name, running=False, why=self._how or "it was not started")
        return ProcessState(name=name, running=True, release=status.release, pid=status.pid)

    def _runs(self, placed: Placed) -> bool:
        status = self._runner.status if self._runner else None
        return status is not None and status.release == placed.release

    async def _prepare(self, placed: Placed, *, report: int) -> Launch:
        prepare = partial(prepare_process, host=self._host, report=report)
        return await asyncio.to_thread(prepare, self._app, self._config, placed, self._instance)

    async def _start(self, placed: Placed) -> Main:
        """Raises: Failed(start_not_found, service_failed, app_exited)."""
        try:
            runner = RunnerProcess()
        except OSError as error:
            raise self._not_started(placed, str(error), "") from error
        try:
            launch = await self._prepare(placed, report=runner.theirs.fileno())
            child = await process.start(
                launch.argv,
                folder=launch.folder,
                environment=launch.environment,
                line=partial(self._hear, runner),
                pass_fds=[runner.theirs.fileno()],
            )
        except BaseException as error:
            runner.close()
            if isinstance(error, OSError):
                raise self._not_started(placed, str(error), "") from error
            raise
        runner.attach(child)
        self._runner = runner
        try:
            status = await runner.ready(deadline_s=_READY_S)
            if status is None or status.release != placed.release:
                how = await child.end(patience_s=self._instance.config.drain_s)
                why = f"`current` points at {status.release}" if status else f"its runner ended: {how}"
                raise self._not_started(placed, why, child.tail())
            for pid in (child.pid, status.pid):
                with suppress(OSError):  # a full disk must not keep it from running; a second safeguard is missing
                    await asyncio.to_thread(orphans.record, self._folder, pid)
        except BaseException:
            # Cancelled as well, by `end`: until this returns, nobody else knows the process.
            await child.end(patience_s=self._instance.config.drain_s)
            raise
        self._how = ""
        self._main = Main(
            placed,
            AppProcess(runner, status.pid, gone=self._forget),
            None,
            address="",
            folder=self._folder,
            private=None,
            patience_s=self._instance.config.drain_s,
            dismissal_s=0,
            gone=lambda _: None,
        )
        return self._main

    def _not_started(self, placed: Placed, why: str, output: str) -> Failed:
        self._how = why
        what = f"The process {self._instance.name} did not start with release {placed.release}"
        return process_ended(what, how=why, written=output, release=placed.release, code=Code.SERVICE_FAILED)

    def _hear(self, runner: RunnerProcess, text: str) -> None:
        runner.tail.append(text)
        self._hear_line(text)

    async def _forget(self, pid: int) -> None:
        await asyncio.to_thread(orphans.forget, self._folder, pid)

    async def _watch(self, main: Main) -> None:
        """Start it again whenever it ends by itself, after pauses that grow while it does not stay up."""
        pauses = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        name = self._instance.name
        while True:
            began = self._clock.elapsed()
            self._how = await main.wait()
            if self._clock.elapsed() - began > _STAYED_UP_S:
                pauses.reset()
            _log.warning("process_exited", app=self._app, process=name, how=self._how, pause_s=pauses.coming)
            await main.end()
            successor: Main | None = None
            while successor is None:
                await self._clock.sleep(pauses.next())
                successor = await self._start_again(main.placed)
            main = successor

    async def _start_again(self, placed: Placed) -> Main | None:
        start: Callable[[Placed], Awaitable[Main]] = self._start
        try:
            return await start(placed)
        except Problem as problem:
            _log.error("process_not_started", app=self._app, process=self._instance.name, problem=str(problem))
            return None
