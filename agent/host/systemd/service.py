"""The service of a server: systemd runs the app, the agent tells it when.

Invariant: the agent changes nothing of what the units are. It points links, and starts and stops fixed names; what
is told about a release is told about one run of a unit, which began after the agent asked for it.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator
from functools import partial

import structlog

from agent.core.config import AppConfig, parse_listen
from agent.core.layout import AppLayout, HostLayout
from agent.core.units import Units
from agent.host.net import sockets
from agent.host.ports import Clock, Placed
from agent.host.releases.store import ReleaseStore
from agent.host.run.launch import find_start
from agent.host.systemd import systemctl
from agent.host.systemd.journalctl import journal_of
from agent.host.systemd.process import UnitMain
from agent.host.systemd.start_record import note_start, now_us, replace_link, started_since
from agent.host.systemd.systemctl import State
from agent.host.systemd.unit_files import disagreement
from pusher.wire import Code, Failed, LogLine, Problem, Refused

_START_S = 60.0
_CONTROL_GROUP_S = 5.0
_UNAVAILABLE = "unavailable resources"  # how `systemctl start` puts Result=resources
_NO_CONTROL_GROUP = "exit code 219"  # EXIT_CGROUP, systemd.exec(5)
_FIRST_UNPRIVILEGED = 1024
_ADDRESS_TAKEN = os.strerror(errno.EADDRINUSE)
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
        self._layout = AppLayout(host.beneath(config.path))
        self._store = ReleaseStore(self._layout)
        self._note = host.notes(app) / "started"
        self._turn = asyncio.Lock()
        self._serving: UnitMain | None = None
        self._candidate = 0
        self._keeper: asyncio.Task[None] | None = None

    @classmethod
    async def find(cls, app: str, config: AppConfig, *, host: HostLayout, clock: Clock) -> "Systemd":
        """The service, knowing what runs already: an agent that starts disturbs nothing."""
        service = cls(app, config, host=host, clock=clock)
        units = service._units
        with contextlib.suppress(Failed):  # the first deployment will say it
            service._serving = await service._find_running()
            # A candidate, or a hook, whose agent has died.
            await service._tell("stop", units.preflight_socket, units.preflight, units.hook)
        service._keep()
        return service

    async def ready(self) -> None:
        """Whether a deployment may begin. Raises: Refused, with what keeps it from it; nothing is changed."""
        different = await asyncio.to_thread(disagreement, self._app, self._config, host=self._host)
        if different:
            raise Refused(
                Code.CONFIGURATION,
                f"The units of {self._app} and its configuration disagree",
                why=different,
                hint=f"`pusher-agent app apply {self._app}`, as root",
            )
        try:
            states = await systemctl.look(*self._units.all)
        except Failed as problem:
            raise Refused(problem.code, problem.what, why=problem.why, hint=problem.hint) from problem
        for unit, state in states.items():
            if state.load != "loaded" or state.stale:
                masked = state.load == "masked"
                raise Refused(
                    Code.SERVICE_FAILED,
                    f"{unit} cannot be started",
                    why="systemd has read an older version of it" if state.load == "loaded" else state.why,
                    hint=f"`systemctl unmask {unit}`, as root" if masked else "`systemctl daemon-reload`, as root",
                )

    async def reserve(self) -> None:
        states = await systemctl.look(self._units.socket, self._units.service)
        if any(state.active in ("active", "activating") for state in states.values()):
            return
        where = parse_listen(self._config.listen)
        if isinstance(where, str) or where[1] < _FIRST_UNPRIVILEGED:
            await asyncio.to_thread(sockets.check_free, self._config.listen)  # only process 1 can try that
            return
        try:
            sock = await asyncio.to_thread(sockets.listen, self._config.listen)
        except Refused as problem:
            if problem.code is Code.PORT_TAKEN:
                raise
            return  # an address that comes later, for which FreeBind= is there
        sock.close()

    async def wanted(self) -> bool:
        """Not while both units are disabled. What was started by hand all the same is known from then on."""
        states = await systemctl.look(self._units.socket, self._units.service)
        if not all(state.disabled for state in states.values()):
            return True
        async with self._turn:
            if self._serving is None and (found := await self._find_running()):
                self._serving = found
                self._keep()
        return False

    async def try_out(self, placed: Placed) -> UnitMain:
        async with self._turn:
            self._candidate += 1
            number = self._candidate
            try:
                await asyncio.to_thread(replace_link, self._layout.candidate, str(placed.path))
                state = await self._start(placed, self._units.preflight)
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
        async with self._turn:
            self._stop_keeping()
            await asyncio.to_thread(note_start, self._note, placed.release)
            try:
                main = self._main(placed, await self._start_public(placed))
            except Problem:
                self._keep()  # what served before may still do so: it is for the caller to ask
                raise
            if self._serving is not None:
                self._serving.forget()
            self._serving = main
            self._keep()
            return main

    async def mend(self) -> None:
        """As far as it goes: what is still in the way is said by the `restart` that follows."""
        try:
            await systemctl.tell("reset-failed", self._units.service, self._units.socket, deadline_s=_START_S)
            states = await systemctl.look(self._units.socket)
            if states[self._units.socket].active != "active":
                await self._open_socket()
        except Failed as problem:
            _log.warning("units_not_mended", app=self._app, problem=str(problem))

    async def stop(self) -> None:
        async with self._turn:
            self._stop_keeping()
            units = self._units
            # The socket first: else it would start the service again for whoever waits.
            await self._tell("stop", units.socket, units.service, units.preflight, units.preflight_socket)
            if self._serving is not None:
                self._serving.forget()
                self._serving = None

    def running(self) -> UnitMain | None:
        return self._serving if self._serving is not None and self._serving.alive else None

    def log(self, *, lines: int, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        return journal_of(self._app, lines=lines, follow=follow, unit=unit)

    def close(self) -> None:
        """Watch no longer; whatever runs goes on running."""
        self._stop_keeping()
        if self._serving is not None:
            self._serving.forget()

    async def _start_public(self, placed: Placed) -> State:
        service, socket = self._units.service, self._units.socket
        try:
            state = await self._start(placed, service)
        except Failed:
            if not await self._mendable():
                raise
            _log.warning("units_mended", app=self._app)
            await self.mend()
            return await self._start(placed, service)
        if (await systemctl.look(socket))[socket].active != "active":
            # It would serve nobody: without its socket a service is started without one.
            await self._open_socket()
            state = await self._start(placed, service)
        return state

    async def _mendable(self) -> bool:
        """Whether what keeps the service from starting is in its socket, or in how often it was started."""
        try:
            states = await systemctl.look(self._units.service, self._units.socket)
        except Failed:
            return False
        limit = any("limit-hit" in state.result for state in states.values())
        return limit or states[self._units.socket].active != "active"

    async def _open_socket(self) -> None:
        """systemd refuses to open a socket while its service runs."""
        await self._tell("stop", self._units.service)
        try:
            await self._tell("start", self._units.socket)
        except Failed as problem:
            raise await self._unopened(problem) from problem

    async def _unopened(self, problem: Failed) -> Failed:
        """systemctl says only where to read on; why a socket was not opened stands in the journal."""
        state = (await systemctl.look(self._units.socket))[self._units.socket]
        log = await systemctl.log_of(state.invocation)
        if _ADDRESS_TAKEN not in log:
            return Failed(problem.code, problem.what, why=problem.why, hint=problem.hint, output=log)
        taken = await asyncio.to_thread(sockets.taken_by, self._config.listen)
        return Failed(taken.code, taken.what, why=taken.why, hint=taken.hint, output=log)

    async def _start(self, placed: Placed, unit: str) -> State:
        """As `_start_once`; again for a while if systemd could not set up the unit's control group.

        That happens when the one before it has only just ended and its group is being removed: it says nothing
        about the release.
        """
        until = self._clock.elapsed() + _CONTROL_GROUP_S
        while True:
            try:
                return await self._start_once(placed, unit)
            except Failed as problem:
                if problem.why != _NO_CONTROL_GROUP or self._clock.elapsed() > until:
                    raise
                _log.warning("start_repeated", app=self._app, unit=unit, why=problem.why)
            await self._clock.sleep(_PAUSE_S)

    async def _start_once(self, placed: Placed, unit: str) -> State:
        """Start `unit` anew, and see that it has. Raises: Failed(start_not_found, service_failed)."""
        await asyncio.to_thread(find_start, self._config.start, release=placed.path)
        asked_us = now_us()
        refusal: Failed | None = None
        try:
            await self._tell("restart", unit)
        except Failed as problem:
            refusal = problem
        state = (await systemctl.look(unit))[unit]
        if refusal is None and state.started_us >= asked_us:
            return state
        begun = state.started_us >= asked_us
        # What systemd could not set up it never ran; which file it missed stands in the log of that attempt.
        tried = begun or (refusal is not None and _UNAVAILABLE in refusal.why)
        log = await systemctl.log_of(state.invocation) if tried else ""
        # What became of an earlier run is not why there was none now.
        bare = (begun and state.result not in ("", "success")) or "limit-hit" in state.result
        raise Failed(
            Code.SERVICE_FAILED,
            f"{unit} did not start with release {placed.release}",
            why=state.why if bare or refusal is None else refusal.why,
            hint=refusal.hint if refusal else "",
            output=log,
        )

    async def _tell(self, verb: str, *units: str) -> None:
        await systemctl.tell(verb, *units, deadline_s=_START_S + self._config.drain_s)

    async def _leave_candidate(self, number: int, wait: bool) -> None:
        async with self._turn:  # so that the next candidate, in the same units, is not met by this one's end
            if number == self._candidate:
                await self._end_candidate(wait=wait)

    async def _end_candidate(self, *, wait: bool) -> None:
        # Both: with its socket open, a candidate would be started again by whoever connects.
        units = (self._units.preflight_socket, self._units.preflight)
        try:
            await systemctl.tell("stop", *units, deadline_s=_START_S, wait=wait)
            if wait:  # one that was no good is told of by us, not for ever by `systemctl --failed`
                await systemctl.tell("reset-failed", *units, deadline_s=_START_S)
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
        await systemctl.tell("stop", self._units.service, deadline_s=_START_S + self._config.drain_s, wait=wait)

    def _keep(self) -> None:
        self._keeper = asyncio.create_task(self._follow())

    def _stop_keeping(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None

    async def _follow(self) -> None:
        """Notice that systemd has started the app again after it ended. Asks only while nothing runs."""
        pause = _PAUSE_S
        while self._serving is not None:
            if self._serving.alive:
                how = await self._serving.wait()
                _log.warning("app_exited", app=self._app, release=self._serving.placed.release, how=how)
                pause = _PAUSE_S
            await self._clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            with contextlib.suppress(Failed):
                self._serving = await self._find_running() or self._serving

    async def _find_running(self) -> UnitMain | None:
        """What runs, if it is certain which release that is."""
        state = (await systemctl.look(self._units.service))[self._units.service]
        if state.active != "active" or not state.pid:
            return None
        placed = await asyncio.to_thread(started_since, self._note, state.started_us, store=self._store)
        return self._main(placed, state) if placed else None
