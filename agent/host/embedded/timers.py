"""The timers of the embedded default: the agent itself waits for their times, and runs their commands.

Invariant: a timer runs with what is live at that moment, never twice at once. That a run began is written down
before it begins, so after a power cut it is not run a second time; a time that was missed is caught up with, once.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

import structlog

from agent.core.config.app import AppConfig, Timer
from agent.core.layout import AppLayout, HostLayout
from agent.core.run import RunRules
from agent.host.ports import Clock, TimerState
from agent.host.releases.store import ReleaseStore
from agent.host.run import process
from agent.host.run.calendar import next_time
from agent.host.run.launch import find_start, prepare_hook
from agent.host.storage.disk import Disk
from pusher.wire import Failed, Problem, WireError

_LONGEST_SLEEP_S = 60.0
"""The clock of the machine may be set meanwhile, so it is read again this often."""

_FOR_EVER_S = 366 * 24 * 3600.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Record:
    """What is kept: since when the next time counts, when the last run began (ms since 1970), how it ended."""

    since: int
    last: int | None = None
    ending: str = ""


class EmbeddedTimer:
    """One timer. `hear` gets each line that its command writes."""

    def __init__(
        self,
        app: str,
        name: str,
        config: AppConfig,
        *,
        host: HostLayout,
        clock: Clock,
        disk: Disk,
        hear: Callable[[str], None],
    ) -> None:
        self.name = name
        self._app = app
        self._timer: Timer = config.timers[name]
        self._config = config
        self._host = host
        self._clock = clock
        self._disk = disk
        self._hear = hear
        self._file = host.timer_record(app, name)
        rules = RunRules(app, config, str(host.app_toml(app)))
        self._store = ReleaseStore(AppLayout(host.beneath(config.path)), rules.unsaid())
        self._record = _Record(0)
        self._next: int | None = None
        self._runs = False
        self._waiting: asyncio.Task[None] | None = None

    def adopt(self, config: AppConfig) -> None:
        """Run its command as this configuration says, which has the same timer."""
        self._config = config

    async def start(self) -> None:
        """Wait for its times from now on. Idempotent. Raises: Refused, Failed."""
        if self._waiting is None:
            self._record = await asyncio.to_thread(self._read)
            self._next = await self._next_time(self._record.since)
            self._waiting = asyncio.create_task(self._wait(), name=f"timer {self._app} {self.name}")

    async def end(self) -> None:
        """Wait no more; its command, if it runs, is ended. Idempotent."""
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.wait({self._waiting})
            self._waiting = None

    async def forget(self) -> None:
        """Forget when it last ran: a later timer of this name must not catch up with what came up before it."""
        with suppress(Failed):  # then it does, once
            await asyncio.to_thread(self._disk.unlink, self._file, op="timers.forget")

    def state(self) -> TimerState:
        return TimerState(
            name=self.name,
            schedule=self._timer.schedule,
            running=self._runs,
            last=self._record.last,
            next=self._next,
            ending=self._record.ending,
        )

    async def _wait(self) -> None:
        while self._next is not None:
            wait_s = (self._next - self._clock.now()) / 1000
            if wait_s > 0:
                await self._clock.sleep(min(wait_s, _LONGEST_SLEEP_S))
                continue
            try:
                await self._run()
            except Problem as problem:
                self._log_failure(problem)
            # What came up while it ran is left out, as systemd does.
            self._next = await self._coming_time()

    async def _coming_time(self) -> int | None:
        """The time of the next run. If it cannot be told now, it is asked for until it can: nobody else would."""
        while True:
            try:
                return await self._next_time(self._record.since)
            except Problem as problem:
                self._log_failure(problem)
            await self._clock.sleep(_LONGEST_SLEEP_S)

    async def _run(self) -> None:
        before, began = self._record, self._clock.now()
        self._record = _Record(since=began, last=began)
        try:
            await asyncio.to_thread(self._write)
        except Problem as problem:
            self._record = replace(before, since=began, ending=f"it was not run: {problem}")
            raise
        self._runs = True
        try:
            ending = await self._run_live()
        except Problem as problem:
            ending = str(problem)
        finally:
            self._runs = False
        self._record = _Record(since=self._clock.now(), last=began, ending=ending or "exit code 0")
        log = _log.warning if ending else _log.info
        log("timer_done", app=self._app, timer=self.name, ending=self._record.ending)
        await asyncio.to_thread(self._write)

    def _log_failure(self, problem: Problem) -> None:
        _log.error("timer_failed", app=self._app, timer=self.name, problem=str(problem))

    async def _run_live(self) -> str:
        """Run the command with the live release; how it ended, empty if well."""
        live = await asyncio.to_thread(self._store.live)
        if live is None:
            return "no release is live"
        try:
            placed = await asyncio.to_thread(self._store.placed, live)
            if (start := placed.run.timers.get(self.name)) is None:
                return "the live release has no such timer"
            argv = await asyncio.to_thread(find_start, start, release=placed.path, process=self.name)
            own = {
                "PUSHER_APP": self._app,
                "PUSHER_RELEASE": placed.release,
                "PUSHER_VERSION": placed.version,
                "PUSHER_TIMER": self.name,
            }
            launch = await asyncio.to_thread(
                lambda: prepare_hook(argv, self._config, placed.path, own, host=self._host)
            )
            ending, _ = await process.run(
                launch.argv,
                folder=launch.folder,
                environment=launch.environment,
                deadline_s=_FOR_EVER_S,
                line=self._hear,
            )
        except (OSError, WireError) as error:
            return str(error)
        return ending

    async def _next_time(self, after: int) -> int | None:
        return await next_time(self._timer.schedule, after=after, key=_key(self.name))

    def _read(self) -> _Record:
        """What is kept of it; a timer that is new counts from now on. Blocking. Raises: Failed."""
        try:
            kept = json.loads(self._file.read_text("utf-8"))
            # A clock that was ahead and is right again must not let the timer rest until then, as in systemd.
            since = min(int(kept["since"]), self._clock.now())
            return _Record(since=since, last=kept["last"], ending=str(kept["ending"]))
        except (OSError, ValueError, KeyError, TypeError):
            self._record = _Record(since=self._clock.now())
            self._write()
            return self._record

    def _write(self) -> None:
        self._disk.make_folders(self._file.parent, op="timers.folder")
        self._disk.write(self._file, json.dumps(asdict(self._record)).encode(), op="timers.record", replace=True)


async def check_schedule(name: str, schedule: str) -> None:
    """Check the schedule of a timer of this name. Raises: Refused(configuration), if it cannot be read."""
    await next_time(schedule, after=0, key=_key(name))


def _key(name: str) -> str:
    return f"timers.{name}.schedule"
