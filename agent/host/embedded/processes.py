"""The workers and timers of the embedded default: children of the agent, as the app is.

Invariant: none outlives its agent; what a killed agent left is ended before anything is started.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from agent.core.config.app import AppConfig
from agent.core.layout import HostLayout
from agent.core.processes import Instance, instances
from agent.host.embedded import orphans
from agent.host.embedded.log_buffer import LogBuffer
from agent.host.embedded.timers import EmbeddedTimer, check_schedule
from agent.host.embedded.worker import Worker
from agent.host.log.stderr import write_line
from agent.host.ports import Clock, Lines, Placed, ProcessState, Running, TimerState
from agent.host.storage import volatile
from agent.host.storage.disk import Disk
from agent.host.storage.errors import explained

_log = structlog.get_logger()


class EmbeddedProcesses:
    """`SideProcesses` for one app. What they write goes to `log` and to `line`, each line after its name."""

    def __init__(
        self,
        app: str,
        config: AppConfig,
        *,
        host: HostLayout,
        clock: Clock,
        log: LogBuffer,
        disk: Disk,
        line: Lines | None = None,
    ) -> None:
        self._app = app
        self._config = config
        self._log = log
        self._line = line or write_line
        self._folder = host.run / app / "processes"
        self._lock = asyncio.Lock()
        self._clean = False
        self._host, self._clock, self._disk = host, clock, disk
        self._workers = {one.name: self._worker(one) for one in instances(config)}
        self._timers = [self._timer(name) for name in config.timers]
        self._coming: AppConfig | None = None

    @property
    def any(self) -> bool:
        config = self._coming or self._config
        return bool(self._workers or self._timers or instances(config) or config.timers)

    def adopt(self, config: AppConfig) -> None:
        # Only with the next `run`: what the file names no more goes on until then. The deployment may still fail.
        self._coming = config

    async def ready(self) -> None:
        for name, timer in (self._coming or self._config).timers.items():
            await check_schedule(name, timer.schedule)

    async def run(self, placed: Placed) -> Mapping[str, Running]:
        async with self._lock:
            await self._change()
            if self._workers and not self._clean:
                await asyncio.to_thread(self._end_orphans)
                self._clean = True
            # All of them, also if one fails: what a rollback must not leave is one with another release.
            known = {name: one for name, one in self._workers.items() if one.process in placed.run.processes}
            ran = await asyncio.gather(*(one.run(placed) for one in known.values()), return_exceptions=True)
            await asyncio.gather(*(one.end() for name, one in self._workers.items() if name not in known))
            for result in ran:
                if isinstance(result, BaseException):
                    raise result
            for timer in self._timers:
                await timer.start()
            return dict(zip(known, (one for one in ran if not isinstance(one, BaseException)), strict=True))

    async def stop(self) -> None:
        async with self._lock:
            await asyncio.gather(*(timer.end() for timer in self._timers))
            await asyncio.gather(*(worker.end() for worker in self._workers.values()))

    async def states(self) -> tuple[list[ProcessState], list[TimerState]]:
        return [one.state() for one in self._workers.values()], [one.state() for one in self._timers]

    def _worker(self, instance: Instance) -> Worker:
        return Worker(
            self._app,
            instance,
            self._config,
            host=self._host,
            clock=self._clock,
            folder=self._folder,
            hear=self._hearing(instance.name),
        )

    def _timer(self, name: str) -> EmbeddedTimer:
        return EmbeddedTimer(
            self._app,
            name,
            self._config,
            host=self._host,
            clock=self._clock,
            disk=self._disk,
            hear=self._hearing(name),
        )

    async def _change(self) -> None:
        """Make workers and timers as the coming configuration has them. A timer that is as before goes on."""
        coming, before = self._coming, self._config
        self._coming = None
        if coming is None or coming == before:
            return
        self._config = coming
        going = {one.name: one for one in self._timers if coming.timers.get(one.name) == before.timers[one.name]}
        await asyncio.gather(
            *(worker.end() for worker in self._workers.values()),
            *(timer.end() for timer in self._timers if timer.name not in going),
        )
        await asyncio.gather(*(timer.forget() for timer in self._timers if timer.name not in coming.timers))
        for timer in going.values():
            timer.adopt(coming)
        self._workers = {one.name: self._worker(one) for one in instances(coming)}
        self._timers = [going.get(name) or self._timer(name) for name in coming.timers]

    def _hearing(self, name: str) -> Callable[[str], None]:
        return partial(self._hear, name)

    def _hear(self, name: str, text: str) -> None:
        self._log.add(name, text)
        self._line(f"{self._app} ({name}) | {text}")

    def _end_orphans(self) -> None:
        """Blocking. Raises: Failed(disk_error)."""
        with explained("make", self._folder):
            volatile.make_folder(self._folder)
            patience_s = max((one.drain_s for one in self._config.processes.values()), default=0)
            found = orphans.end_recorded(self._folder, patience_s=patience_s)
        if found:
            _log.warning("orphans_ended", app=self._app, pids=found)
