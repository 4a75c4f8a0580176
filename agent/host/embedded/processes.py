"""The workers and timers of the embedded default: children of the agent, as the app is.

Invariant: none outlives its agent; what a killed agent left is ended before anything is started.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from agent.core.config import AppConfig
from agent.core.layout import HostLayout
from agent.core.processes import instances
from agent.host.embedded import orphans
from agent.host.embedded.log_buffer import LogBuffer
from agent.host.embedded.timers import EmbeddedTimer
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
        self._workers = {
            one.name: Worker(
                app,
                one,
                config,
                host=host,
                clock=clock,
                folder=self._folder,
                hear=self._hearing(one.name),
            )
            for one in instances(config)
        }
        self._timers = [
            EmbeddedTimer(app, name, config, host=host, clock=clock, disk=disk, hear=self._hearing(name))
            for name in config.timers
        ]

    @property
    def any(self) -> bool:
        return bool(self._workers or self._timers)

    async def ready(self) -> None:
        for timer in self._timers:
            await timer.check()

    async def run(self, placed: Placed) -> Mapping[str, Running]:
        async with self._lock:
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
            await asyncio.gather(*(timer.stop() for timer in self._timers))
            await asyncio.gather(*(worker.end() for worker in self._workers.values()))

    async def states(self) -> tuple[list[ProcessState], list[TimerState]]:
        return [one.state() for one in self._workers.values()], [one.state() for one in self._timers]

    def _hearing(self, name: str) -> Callable[[str], None]:
        return partial(self._hear, name)

    def _hear(self, name: str, text: str) -> None:
        self._log.add(name, text)
        self._line(f"{self._app} ({name}) | {text}")

    def _end_orphans(self) -> None:
        """Blocking. Raises: Failed(disk_error)."""
        with explained("make", self._folder):
            volatile.make_folder(self._folder)
            patience_s = max(one.drain_s for one in self._config.processes.values())
            found = orphans.end_recorded(self._folder, patience_s=patience_s)
        if found:
            _log.warning("orphans_ended", app=self._app, pids=found)
