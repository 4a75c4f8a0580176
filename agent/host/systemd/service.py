"""The service of a server: systemd runs the app, the agent decides when.

Invariant: the agent never changes a unit. It points links, and starts and stops units of fixed names. What it
reports about a release is about one run of a unit, which began after the agent asked for it.
"""

import asyncio
import contextlib
import errno
import os
import re
from collections.abc import AsyncIterator
from functools import partial

import structlog

from agent.core.backoff import Backoff
from agent.core.config import AppConfig, parse_listen
from agent.core.layout import AppLayout, HostLayout
from agent.core.run import RunRules
from agent.core.units import Units, every_unit
from agent.host.net import sockets
from agent.host.ports import Clock, Differs, Placed
from agent.host.releases.store import ReleaseStore
from agent.host.run.ended import ended
from agent.host.run.environment import unusable_environment
from agent.host.run.launch import find_start
from agent.host.systemd import systemctl
from agent.host.systemd.journalctl import journal_of
from agent.host.systemd.process import UnitMain
from agent.host.systemd.start_record import now_us, point_candidate, started_release, write_start_record
from agent.host.systemd.systemctl import State
from agent.host.systemd.unit_files import changed_since, disagreement
from pusher.wire import Code, Failed, LogLine, Problem, Refused

_START_S = 60.0
_CONTROL_GROUP_S = 5.0
_UNAVAILABLE = "unavailable resources"  # in the words of `systemctl start`: Result=resources
_IGNORED = re.compile(r"Ignoring invalid environment assignment '([^\n]*)'")  # systemd, load_env_file
_NO_CONTROL_GROUP = "exit code 219"  # EXIT_CGROUP, systemd.exec(5)
_NO_SOCKET = "exit code 78"  # NO_SOCKET of the runner
_FIRST_UNPRIVILEGED = 1024
_ADDRESS_OCCUPIED = os.strerror(errno.EADDRINUSE)
_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_STOPPED = ("inactive", "deactivating")

_log = structlog.get_logger()


class Systemd:
    """`Service` for one app whose units root has rendered. Make one with `Systemd.find`."""

    def __init__(self, app: str, config: AppConfig, *, host: HostLayout, clock: Clock) -> None:
        self._app = app
        self._config = config
        self._host = host
        self._clock = clock
        self._units = Units.of(app)
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
            await service._control("stop", *units.helpers)
        service._watch()
        return service

    async def ready(self) -> None:
        if wrong := await asyncio.to_thread(unusable_environment, self._config, self._host):
            hint = "Correct it, and send again. systemd would start the app without that line"
            what = f"{self._app} would not get all of its environment"
            raise Refused(Code.CONFIGURATION, what, why=wrong, hint=hint)
        different = await asyncio.to_thread(disagreement, self._app, self._config, host=self._host)
        try:
            states = await systemctl.states_of(*every_unit(self._app, self._config))
        except Failed as problem:
            raise Refused(problem.code, problem.what, why=problem.why, hint=problem.hint) from problem
        unfit = [(unit, state) for unit, state in states.items() if state.load != "loaded" or state.stale]
        if different:
            command = f"pusher-agent app apply {self._app}"
            # What systemd has loaded is what is in force, unless that is in doubt as well.
            raise (Refused if unfit else Differs)(
                Code.CONFIGURATION,
                f"The units of {self._app} and its configuration disagree",
                why=different,
                hint="" if command in different else f"`{command}`, as root",
            )
        for unit, state in unfit:
            masked = state.load == "masked"
            raise Refused(
                Code.SERVICE_FAILED,
                f"{unit} cannot be started",
                why="systemd has read an older version of it" if state.load == "loaded" else state.why,
                hint=f"`systemctl unmask {unit}`, as root" if masked else "`systemctl daemon-reload`, as root",
            )

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
        async with self._lock:
            if self._serving is None and (found := await self._find_running()):
                self._serving = found
                self._watch()
        return False

    def adopt(self, config: AppConfig) -> None:
        """Nothing to do: root applies a file, and the agent starts anew."""

    async def try_out(self, placed: Placed) -> UnitMain:
        async with self._lock:
            self._candidate += 1
            number = self._candidate
            try:
                await asyncio.to_thread(point_candidate, self._layout.candidate, placed.path)
                state = await self._start(placed, self._units.preflight)
                await self._check_environment(state)
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

    async def _check_environment(self, state: State) -> None:
        """Check that systemd used all of the environment file, which the agent may not read. Raises: Failed."""
        if not self._config.environment_file:
            return
        ignored = _IGNORED.findall(await systemctl.log_of(state.invocation))
        if ignored:
            # Not its value: that is a secret.
            names = ", ".join(dict.fromkeys(repr(one.partition("=")[0][:60]) for one in ignored))
            file = self._host.beneath(self._config.environment_file)
            raise Failed(
                Code.CONFIGURATION,
                f"{self._app} does not get all of its environment",
                why=f"systemd leaves out {names}: it is not NAME=value in {file}",
                hint="As root, `pusher-agent check` names the line and the right form",
            )

    async def restart(self, placed: Placed) -> UnitMain:
        async with self._lock:
            self._stop_watching()
            await asyncio.to_thread(write_start_record, self._start_record, placed.release)
            try:
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
        """As far as possible: the `restart` that follows reports what is still in the way."""
        try:
            await systemctl.control("reset-failed", self._units.service, self._units.socket, deadline_s=_START_S)
            if (await systemctl.state_of(self._units.socket)).active != "active":
                await self._open_socket()
        except Failed as problem:
            _log.warning("units_not_mended", app=self._app, problem=str(problem))

    async def stop(self) -> None:
        async with self._lock:
            self._stop_watching()
            units = self._units
            # The socket first: a waiting connection would make it start the service again.
            await self._control("stop", units.socket, units.service, units.preflight, units.preflight_socket)
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
        # Where the app is known to run, systemd is not asked before: `_reload` asks it once, afterwards.
        state = self._serving.state if self._serving is not None and self._serving.alive else None
        if state is None or state.runner is None:
            states = await systemctl.states_of(self._units.service, self._units.socket)
            state = states[self._units.service]
            if not state.pid or not all(one.active == "active" for one in states.values()):
                return await self._start_public(placed)
        if not self._config.overlaps:
            return await self._start_public(placed)
        if state.runner is None or await asyncio.to_thread(self._changed, state):
            _log.info("restart_without_overlap", app=self._app, why="it runs with an older configuration")
            return await self._start_public(placed)
        return await self._reload(placed)

    def _changed(self, state: State) -> bool:
        return changed_since(state.started_us, self._units.service, self._config, host=self._host)

    async def _reload(self, placed: Placed) -> State:
        """Have the runner start the release and then end what served before. Raises: Failed, if that goes on.

        If the unit was stopped meanwhile, or its socket, both are started.
        """
        await asyncio.to_thread(find_start, placed.run.start, release=placed.path)
        asked_us, unit = now_us(), self._units.service
        try:
            await self._control("reload", unit, starting=placed)
        except Failed as problem:
            refusal: Failed | None = problem
        else:
            refusal = None
        states = await systemctl.states_of(unit, self._units.socket)
        state = states[unit]
        if state.active in _STOPPED or states[self._units.socket].active != "active":
            return await self._start_public(placed)
        runner = state.runner
        if refusal is None and runner and runner.release == placed.release and runner.started_us >= asked_us:
            return state
        log = await systemctl.log_of(state.invocation, since_us=asked_us)
        if runner and runner.problem:
            raise ended(placed, why=runner.problem, written=log)
        raise Failed(
            Code.SERVICE_FAILED,
            f"{unit} did not change over to release {placed.release}",
            why=refusal.why if refusal else state.why,
            hint=refusal.hint if refusal else "",
            output=log,
        )

    async def _start_public(self, placed: Placed) -> State:
        service, socket = self._units.service, self._units.socket
        try:
            state = await self._start(placed, service)
        except Failed as problem:
            # A socket that was masked while it listened is lost when it is unmasked, and still counts as active.
            lost = problem.why == _NO_SOCKET
            if not lost and not await self._mendable():
                raise
            _log.warning("units_mended", app=self._app)
            await self.mend()
            if lost or (await systemctl.state_of(socket)).active != "active":
                await self._open_socket()  # it says why not
            return await self._start(placed, service)
        if (await systemctl.state_of(socket)).active != "active":
            # systemd starts a service without its socket, and then no visitor reaches it.
            await self._open_socket()
            state = await self._start(placed, service)
        return state

    async def _mendable(self) -> bool:
        """Whether the service does not start because its socket is down, or because of a start limit."""
        try:
            states = await systemctl.states_of(self._units.service, self._units.socket)
        except Failed:
            return False
        limit = any("limit-hit" in state.result for state in states.values())
        return limit or states[self._units.socket].active != "active"

    async def _open_socket(self) -> None:
        await self._control("stop", self._units.service)  # systemd opens no socket while its service runs
        try:
            await self._control("restart", self._units.socket)
        except Failed as problem:
            raise await self._unopened(problem) from problem

    async def _unopened(self, problem: Failed) -> Failed:
        """Why a socket was not opened. systemctl does not say it; the journal does."""
        log = await systemctl.log_of((await systemctl.state_of(self._units.socket)).invocation)
        if _ADDRESS_OCCUPIED not in log:
            return Failed(problem.code, problem.what, why=problem.why, hint=problem.hint, output=log)
        refusal = await asyncio.to_thread(sockets.occupied, self._config.listen)
        return Failed(refusal.code, refusal.what, why=refusal.why, hint=refusal.hint, output=log)

    async def _start(self, placed: Placed, unit: str) -> State:
        """As `_start_once`; retry for a while if systemd could not set up the unit's control group.

        That happens when its last run has only just ended and its group is being removed. It says nothing about
        the release.
        """
        until = self._clock.elapsed() + _CONTROL_GROUP_S
        while True:
            try:
                return await self._start_once(placed, unit)
            except Failed as problem:
                if problem.why != _NO_CONTROL_GROUP or self._clock.elapsed() > until:
                    raise
                _log.warning("start_retried", app=self._app, unit=unit, why=problem.why)
            await self._clock.sleep(_PAUSE_S)

    async def _start_once(self, placed: Placed, unit: str) -> State:
        """Restart `unit`, and check that a new run began. Raises: Failed(start_not_found, service_failed)."""
        await asyncio.to_thread(find_start, placed.run.start, release=placed.path)
        asked_us = now_us()
        refusal: Failed | None = None
        try:
            await self._control("restart", unit, starting=placed)
        except Failed as problem:
            refusal = problem
        state = await systemctl.state_of(unit)
        if refusal is None and state.started_us >= asked_us:
            return state
        begun = state.started_us >= asked_us
        # systemd never ran what it could not set up, but the log of that attempt names the missing file.
        tried = begun or (refusal is not None and _UNAVAILABLE in refusal.why)
        log = await systemctl.log_of(state.invocation) if tried else ""
        # The result of an earlier run does not explain why there was no new one.
        own_result = (begun and state.result not in ("", "success")) or "limit-hit" in state.result
        raise Failed(
            Code.SERVICE_FAILED,
            f"{unit} did not start with release {placed.release}",
            why=state.why if own_result or refusal is None else refusal.why,
            hint=refusal.hint if refusal else "",
            output=log,
        )

    async def _control(self, verb: str, *units: str, starting: Placed | None = None) -> None:
        deadline_s = _START_S + self._config.drain_s + (starting.run.health.deadline_s if starting else 0)
        await systemctl.control(verb, *units, deadline_s=deadline_s)

    async def _leave_candidate(self, number: int, wait: bool) -> None:
        async with self._lock:  # the next candidate uses the same units: the end of this one must not end it
            if number == self._candidate:
                await self._end_candidate(wait=wait)

    async def _end_candidate(self, *, wait: bool) -> None:
        # Both: while its socket is open, any connection starts a candidate again.
        units = (self._units.preflight_socket, self._units.preflight)
        try:
            await systemctl.control("stop", *units, deadline_s=_START_S, wait=wait)
            if wait:  # we report a bad candidate; `systemctl --failed` need not list it for ever
                await systemctl.control("reset-failed", *units, deadline_s=_START_S)
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
        await systemctl.control("stop", self._units.service, deadline_s=_START_S + self._config.drain_s, wait=wait)

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
