"""The service of a server: systemd runs the app, the agent decides when.

Invariant: the agent never changes a unit. It points links, and starts and stops units of fixed names. What it
reports about a release is about one run of a unit, which began after the agent asked for it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import structlog

from agent.core.backoff import Backoff
from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.core.listen import parse_listen
from agent.core.run import RunRules
from agent.core.units import Units
from agent.host.net import sockets
from agent.host.ports import Clock, Placed
from agent.host.releases.store import ReleaseStore
from agent.host.systemd import systemctl
from agent.host.systemd.journalctl import journal_of
from agent.host.systemd.outage import outage
from agent.host.systemd.process import REPLACED, UnitMain
from agent.host.systemd.readiness import check_environment, check_ready
from agent.host.systemd.start_record import point_candidate, started_release, write_start_record
from agent.host.systemd.starter import START_S, Starter
from agent.host.systemd.systemctl import State
from agent.host.systemd.unit_files import changed_since
from pusher.wire import Code, Failed, LogLine, Problem, Refused

_FIRST_UNPRIVILEGED = 1024
_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0

_log = structlog.get_logger()


class Systemd:
    """`Service` for one app whose units root has rendered. Make one with `Systemd.find`."""

    def __init__(self, app: str, config: AppConfig, *, host: HostLayout, clock: Clock) -> None:
        self._app = app
        self._config = config
        self._host = host
        self._clock = clock
        self._units = Units.of(app)
        self._starter = Starter(app, config, clock=clock)
        self._layout = AppLayout(host.beneath(config.path))
        self._store = ReleaseStore(self._layout, RunRules(app, config, str(host.app_toml(app))).unsaid())
        self._start_record = host.notes(app) / "started"
        self._lock = asyncio.Lock()
        self._serving: UnitMain | None = None
        self._candidate = 0
        self._watcher: asyncio.Task[None] | None = None
        self.restarts = 0

    @classmethod
    async def find(cls, app: str, config: AppConfig, *, host: HostLayout, clock: Clock) -> "Systemd":
        """The service, which knows what runs already: a starting agent disturbs nothing."""
        service = cls(app, config, host=host, clock=clock)
        units = service._units
        with contextlib.suppress(Failed):  # the first deployment will report it
            service._serving = await service._find_running()
            # A candidate, a hook or a build whose agent has died.
            await service._starter.control("stop", *units.helpers)
        service._watch()
        return service

    async def ready(self) -> None:
        await check_ready(self._app, self._config, host=self._host)

    async def reserve(self) -> None:
        if self.running() is not None:  # so its unit is active; to ask systemd takes longer than a rollback needs
            return
        states = await systemctl.states_of(self._units.socket, self._units.service)
        if any(state.active in ("active", "activating") for state in states.values()):
            return
        where = parse_listen(self._config.listen)
        if isinstance(where, str) or where[1] < _FIRST_UNPRIVILEGED:
            await asyncio.to_thread(sockets.check_free, self._config.listen)  # only process 1 can open it
            return
        try:
            sock = await asyncio.to_thread(sockets.listen, self._config.listen)
        except Refused as problem:
            if problem.code is Code.PORT_TAKEN:
                raise
            return  # an address that appears later: FreeBind= is for that
        sock.close()

    async def unreserve(self) -> None:
        """Nothing: process 1 opens the socket when the service is started."""

    async def wanted(self) -> bool:
        """Not while both units are disabled. If root started the app by hand all the same, it is watched."""
        states = await systemctl.states_of(self._units.socket, self._units.service)
        if not all(state.disabled for state in states.values()):
            return True
        await self._find()
        return False

    async def outage(self) -> str:
        if self._lock.locked():
            return ""
        states = await systemctl.states_of(self._units.service, self._units.socket)
        await self._find()
        found = outage(self._app, service=states[self._units.service], socket=states[self._units.socket])
        return found.why if found and self.running() is None else ""

    async def ending(self) -> bool:
        return await systemctl.host_ends()

    def adopt(self, config: AppConfig) -> None:
        """Nothing to do: root applies a file, and the agent starts anew."""

    async def try_out(self, placed: Placed) -> UnitMain:
        async with self._lock:
            self._candidate += 1
            number = self._candidate
            try:
                await asyncio.to_thread(point_candidate, self._layout.candidate, placed.path)
                state = await self._starter.start(placed, self._units.preflight)
                await check_environment(self._app, self._config, state, host=self._host)
            except BaseException:
                await self._end_candidate(wait=True)
                raise
            return UnitMain(
                placed,
                state,
                unit=self._units.preflight,
                address=f"unix:{self._host.preflight_socket(self._app)}",
                clock=self._clock,
                leave=partial(self._leave_candidate, number),
            )

    async def restart(self, placed: Placed) -> UnitMain:
        async with self._lock:
            self._stop_watching()
            try:
                await asyncio.to_thread(write_start_record, self._start_record, placed.release)
                main = self._main(placed, await self._change_over(placed))
            except Problem:
                self._watch()  # the release before may still run: the caller checks that
                raise
            if self._serving is not None:
                self._serving.forget()
            self._serving = main
            self._watch()
            return main

    async def mend(self) -> None:
        await self._starter.mend()

    async def stop(self) -> None:
        async with self._lock:
            self._stop_watching()
            units = self._units
            # The socket first: a waiting connection would make it start the service again.
            await self._starter.control(
                "stop", units.socket, units.service, units.preflight, units.preflight_socket
            )
            if self._serving is not None:
                self._serving.forget()
                self._serving = None

    def running(self) -> UnitMain | None:
        return self._serving if self._serving is not None and self._serving.alive else None

    def log(self, *, lines: int, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        return journal_of(self._app, self._config, lines=lines, follow=follow, unit=unit)

    def close(self) -> None:
        """Stop watching; what runs goes on running."""
        self._stop_watching()
        if self._serving is not None:
            self._serving.forget()

    async def _change_over(self, placed: Placed) -> State:
        """Have `placed` serve: without a pause where that can be."""
        # Where the app is known to run, systemd is not asked before: `reload` asks it once, afterwards.
        state = self._serving.state if self._serving is not None and self._serving.alive else None
        if state is None or state.runner is None:
            states = await systemctl.states_of(self._units.service, self._units.socket)
            state = states[self._units.service]
            if not state.pid or not all(one.active == "active" for one in states.values()):
                return await self._starter.start_public(placed)
        if not self._config.overlaps:
            return await self._starter.start_public(placed)
        if state.runner is None or await asyncio.to_thread(self._changed, state):
            _log.info("restart_without_overlap", app=self._app, why="it runs with an older configuration")
            return await self._starter.start_public(placed)
        return await self._starter.reload(placed, run=state.invocation)

    def _changed(self, state: State) -> bool:
        return changed_since(state.started_us, self._units.service, self._config, host=self._host)

    async def _leave_candidate(self, number: int, wait: bool) -> None:
        async with self._lock:  # the next candidate uses the same units: the end of this one must not end it
            if number == self._candidate:
                await self._end_candidate(wait=wait)

    async def _end_candidate(self, *, wait: bool) -> None:
        # Both: while its socket is open, any connection starts a candidate again.
        units = (self._units.preflight_socket, self._units.preflight)
        try:
            await systemctl.control("stop", *units, deadline_s=START_S, wait=wait)
            if wait:  # we report a bad candidate; `systemctl --failed` need not list it for ever
                await systemctl.control("reset-failed", *units, deadline_s=START_S)
        except Failed as problem:
            _log.warning("candidate_not_stopped", app=self._app, problem=str(problem))

    def _main(self, placed: Placed, state: State) -> UnitMain:
        return UnitMain(
            placed,
            state,
            unit=self._units.service,
            address=self._config.listen,
            clock=self._clock,
            leave=self._leave_public,
        )

    async def _leave_public(self, wait: bool) -> None:
        await systemctl.control("stop", self._units.service, deadline_s=START_S + self._config.drain_s, wait=wait)

    async def _find(self) -> None:
        """Know what systemd, or root by hand, has started meanwhile. A status must not wait for a restart."""
        if self._lock.locked():
            return
        async with self._lock:
            if self.running() is None and (found := await self._find_running()):
                self._stop_watching()
                self._serving = found
                self._watch()

    def _watch(self) -> None:
        self._watcher = asyncio.create_task(self._follow())

    def _stop_watching(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    async def _follow(self) -> None:
        """Notice when systemd has restarted the app after its end. Asks systemd only while nothing runs."""
        pauses = Backoff(_PAUSE_S, _LONGEST_PAUSE_S)
        while self._serving is not None:
            if self._serving.alive:
                how = await self._serving.wait()
                if how != REPLACED:
                    self.restarts += 1
                    _log.warning("app_exited", app=self._app, release=self._serving.placed.release, how=how)
                pauses.reset()
            await self._clock.sleep(pauses.next())
            with contextlib.suppress(Failed):
                self._serving = await self._find_running() or self._serving

    async def _find_running(self) -> UnitMain | None:
        """The run of the service, if it is certain which release it is."""
        state = await systemctl.state_of(self._units.service)
        if state.active != "active" or not state.pid:
            return None
        started = partial(started_release, self._start_record, state.app_started_us, store=self._store)
        placed = await asyncio.to_thread(started)
        if placed is None or (state.runner and state.runner.release != placed.release):
            return None
        return self._main(placed, state)
