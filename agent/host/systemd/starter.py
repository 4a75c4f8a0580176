"""Starting the units of an app with a release, and why one did not start.

Invariant: what counts as a start is a run of the unit that began after it was asked for. Whatever systemd says
about an earlier run explains nothing.
"""

import asyncio
import errno
import os

import structlog

from agent.core.config.app import AppConfig
from agent.core.units import Units
from agent.host.net import sockets
from agent.host.ports import Clock, Placed
from agent.host.run.ended import ended
from agent.host.run.launch import find_start
from agent.host.systemd import systemctl
from agent.host.systemd.start_record import now_us
from agent.host.systemd.systemctl import State
from pusher.wire import Code, Failed

START_S = 60.0
"""How long a unit may take to start, or to end, beside what its app may take for itself."""

_CONTROL_GROUP_S = 5.0
_PAUSE_S = 0.2
_UNAVAILABLE = "unavailable resources"  # in the words of `systemctl start`: Result=resources
_NO_CONTROL_GROUP = "exit code 219"  # EXIT_CGROUP, systemd.exec(5)
_NO_SOCKET = "exit code 78"  # NO_SOCKET of the runner
_ADDRESS_OCCUPIED = os.strerror(errno.EADDRINUSE)
_STOPPED = ("inactive", "deactivating")

_log = structlog.get_logger()


class Starter:
    """Starts the units of one app."""

    def __init__(self, app: str, config: AppConfig, *, clock: Clock) -> None:
        self._app = app
        self._config = config
        self._units = Units.of(app)
        self._clock = clock

    async def control(self, verb: str, *units: str, starting: Placed | None = None) -> None:
        """Start, stop, restart or reload units, as long as that may take. Raises: Failed(service_failed)."""
        deadline_s = START_S + self._config.drain_s + (starting.run.health.deadline_s if starting else 0)
        await systemctl.control(verb, *units, deadline_s=deadline_s)

    async def start(self, placed: Placed, unit: str) -> State:
        """Restart `unit` with a release. Raises: Failed(start_not_found, service_failed), if no new run began.

        Where systemd could not set up the unit's control group, this is tried again for a while: its last run has
        only just ended, and its group is being removed. That says nothing about the release.
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

    async def start_public(self, placed: Placed) -> State:
        """Restart the service, and open its socket if that is down. Raises: as `start`; Failed(port_taken)."""
        service, socket = self._units.service, self._units.socket
        try:
            state = await self.start(placed, service)
        except Failed as problem:
            # A socket that was masked while it listened is lost when it is unmasked, and still counts as active.
            lost = problem.why == _NO_SOCKET
            if not lost and not await self._mendable():
                raise
            _log.warning("units_mended", app=self._app)
            await self.mend()
            if lost or (await systemctl.state_of(socket)).active != "active":
                await self._open_socket()  # it says why not
            return await self.start(placed, service)
        if (await systemctl.state_of(socket)).active != "active":
            # systemd starts a service without its socket, and then no visitor reaches it.
            await self._open_socket()
            state = await self.start(placed, service)
        return state

    async def reload(self, placed: Placed, *, run: str) -> State:
        """Have the runner start the release and then end what served before. Raises: Failed, if that serves on.

        If the unit was stopped meanwhile, or its socket, both are started. So they are if `run`, the invocation
        that was asked, has ended: what served before has crashed, which says nothing about this release.
        """
        await asyncio.to_thread(find_start, placed.run.start, release=placed.path)
        asked_us, unit = now_us(), self._units.service
        try:
            await self.control("reload", unit, starting=placed)
        except Failed as problem:
            refusal: Failed | None = problem
        else:
            refusal = None
        states = await systemctl.states_of(unit, self._units.socket)
        state = states[unit]
        if state.active in _STOPPED or states[self._units.socket].active != "active":
            return await self.start_public(placed)
        if refusal and (state.invocation != run or state.active != "active"):
            _log.warning("reload_lost", app=self._app, why=state.why)
            return await self.start_public(placed)
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

    async def mend(self) -> None:
        """Clear what would keep a start from working, as far as possible: the next one reports the rest."""
        try:
            await systemctl.control("reset-failed", self._units.service, self._units.socket, deadline_s=START_S)
            if (await systemctl.state_of(self._units.socket)).active != "active":
                await self._open_socket()
        except Failed as problem:
            _log.warning("units_not_mended", app=self._app, problem=str(problem))

    async def _start_once(self, placed: Placed, unit: str) -> State:
        """Restart `unit`, and check that a new run began. Raises: Failed(start_not_found, service_failed)."""
        await asyncio.to_thread(find_start, placed.run.start, release=placed.path)
        asked_us = now_us()
        refusal: Failed | None = None
        try:
            await self.control("restart", unit, starting=placed)
        except Failed as problem:
            refusal = problem
        state = await systemctl.state_of(unit)
        if refusal is None and state.started_us >= asked_us:
            return state
        begun = state.started_us >= asked_us
        # systemd never ran what it could not set up, but the log of that attempt names the missing file.
        tried = begun or (refusal is not None and _UNAVAILABLE in refusal.why)
        # Else a command that comes first may have failed (ExecStartPre=). Of an earlier run, nothing is shown.
        log = await systemctl.log_of(state.invocation, since_us=0 if tried else asked_us)
        # The result of an earlier run does not explain why there was no new one.
        own_result = (begun and state.result not in ("", "success")) or "limit-hit" in state.result
        raise Failed(
            Code.SERVICE_FAILED,
            f"{unit} did not start with release {placed.release}",
            why=state.why if own_result or refusal is None else refusal.why,
            hint=refusal.hint if refusal else "",
            output=log,
        )

    async def _mendable(self) -> bool:
        """Whether the service does not start because its socket is down, or because of a start limit."""
        try:
            states = await systemctl.states_of(self._units.service, self._units.socket)
        except Failed:
            return False
        limit = any("limit-hit" in state.result for state in states.values())
        return limit or states[self._units.socket].active != "active"

    async def _open_socket(self) -> None:
        await self.control("stop", self._units.service)  # systemd opens no socket while its service runs
        try:
            await self.control("restart", self._units.socket)
        except Failed as problem:
            raise await self._unopened(problem) from problem

    async def _unopened(self, problem: Failed) -> Failed:
        """Why a socket was not opened. systemctl does not say it; the journal does."""
        log = await systemctl.log_of((await systemctl.state_of(self._units.socket)).invocation)
        if _ADDRESS_OCCUPIED not in log:
            return Failed(problem.code, problem.what, why=problem.why, hint=problem.hint, output=log)
        refusal = await asyncio.to_thread(sockets.occupied, self._config.listen)
        return Failed(refusal.code, refusal.what, why=refusal.why, hint=refusal.hint, output=log)
