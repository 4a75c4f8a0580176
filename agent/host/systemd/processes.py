"""The workers and timers of a server: systemd runs them, the agent decides when.

Invariant: as for the service. Which release a process runs is what its runner says; a timer's command enters the
release that `current` points at when it starts.
"""

import asyncio
import time
from collections.abc import Mapping

import structlog

from agent.core.config.app import AppConfig
from agent.core.layout import HostLayout
from agent.core.processes import instances, timer_of, unit_of
from agent.host.ports import Clock, Placed, ProcessState, Running, TimerState
from agent.host.run.ended import process_ended
from agent.host.run.launch import find_start
from agent.host.systemd import systemctl
from agent.host.systemd.process import UnitMain
from agent.host.systemd.starter import START_S
from agent.host.systemd.systemctl import State
from pusher.wire import Code, Failed

_NO_PROCESS = 199  # of the runner
_BY_HAND_MS = 5_000
"""A unit that started so much later than its timer last let it start was started by hand."""

_log = structlog.get_logger()


class UnitProcesses:
    """`SideProcesses` for one app whose units root has rendered."""

    def __init__(self, app: str, config: AppConfig, *, host: HostLayout, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._instances = instances(config)
        self._units = {one.name: unit_of(app, one.name) for one in self._instances}
        self._timed = {name: (timer_of(app, name), unit_of(app, name)) for name in config.timers}
        self._drain_s = max((one.drain_s for one in config.processes.values()), default=0.0)
        self._lock = asyncio.Lock()
        self._mains: dict[str, UnitMain] = {}
        self._lacking: set[str] = set()  # what the release that runs does not have

    @property
    def any(self) -> bool:
        return bool(self._units or self._timed)

    def adopt(self, config: AppConfig) -> None:
        """Nothing to do: root applies a file, and the agent starts anew."""

    async def ready(self) -> None:
        """Always: root has checked the schedules when the units were rendered."""

    async def run(self, placed: Placed) -> Mapping[str, Running]:
        if not self.any:
            return {}
        async with self._lock:
            missing = await asyncio.to_thread(self._missing, placed)
            states = await systemctl.states_of(
                *self._units.values(), *(timer for timer, _ in self._timed.values())
            )
            # Those that this release does not have run another one: it is older than they are.
            self._lacking = {one.name for one in self._instances if one.process not in placed.run.processes}
            unknown = {self._units[name] for name in self._lacking}
            if stopped := [
                unit for unit in (*missing, *unknown) if unit in unknown or not _runs(states[unit], placed)
            ]:
                await self._control("stop", *stopped)  # they run another release, or try to run this one
            wanted = {
                name: unit
                for name, unit in self._units.items()
                if not states[unit].disabled and unit not in missing and unit not in unknown
            }
            others = [unit for unit in wanted.values() if not _runs(states[unit], placed)]
            refusal = await self._restart(others) if others else None
            if wanted:
                states |= await systemctl.states_of(*wanted.values())
            for name, unit in wanted.items():
                await self._check(name, unit, states[unit], placed, refusal=refusal)
            self.close()
            # Only now: each watches its process by a descriptor, and a check that fails is made again and again.
            mains = {name: self._main(unit, states[unit], placed) for name, unit in wanted.items()}
            self._mains = mains
            await self._set_timers(states)
            for problem in (refusal, *missing.values()):
                if problem is not None:
                    raise problem
            return mains

    async def stop(self) -> None:
        async with self._lock:
            self.close()
            # The timers first: they would start the others.
            units = [*(unit for pair in self._timed.values() for unit in pair), *self._units.values()]
            if units:
                await self._control("stop", *units)

    async def states(self) -> tuple[list[ProcessState], list[TimerState]]:
        units = [*self._units.values(), *(unit for pair in self._timed.values() for unit in pair)]
        if not units:
            return [], []
        try:
            states = await systemctl.states_of(*units)
            times = await systemctl.timers_of(*(timer for timer, _ in self._timed.values())) if self._timed else {}
        except Failed as problem:
            why = f"{problem.what}: {problem.why}"
            return (
                [ProcessState(name=name, running=False, why=why) for name in self._units],
                [TimerState(name=name, schedule=one.schedule) for name, one in self._config.timers.items()],
            )
        return (
            [
                _process_state(name, states[unit], lacking=name in self._lacking)
                for name, unit in self._units.items()
            ],
            [
                _timer_state(name, self._config.timers[name].schedule, states[service], times.get(timer))
                for name, (timer, service) in self._timed.items()
            ],
        )

    def close(self) -> None:
        """Stop watching; what runs goes on running."""
        for main in self._mains.values():
            main.forget()
        self._mains = {}

    def _missing(self, placed: Placed) -> dict[str, Failed]:
        """The units of workers whose program this release does not have, with that problem. Blocking."""
        found: dict[str, Failed] = {}
        for one in self._instances:
            if (its := placed.run.processes.get(one.process)) is None:
                continue
            try:
                find_start(its.start, release=placed.path, process=one.process)
            except Failed as problem:
                found[self._units[one.name]] = problem
        return found

    async def _restart(self, units: list[str]) -> Failed | None:
        """Restart all of them at once; what systemd had against it."""
        try:
            await self._control("restart", *units)
        except Failed as problem:
            return problem
        return None

    async def _check(self, name: str, unit: str, state: State, placed: Placed, *, refusal: Failed | None) -> None:
        """Raises: Failed, if a unit does not run this release."""
        if _runs(state, placed):
            return
        log = await systemctl.log_of(state.invocation)
        began = bool(state.started_us) and state.result not in ("", "success")
        runs = (
            f"it runs release {state.runner.release}" if state.active == "active" and state.runner else state.why
        )
        raise process_ended(
            f"The process {name} did not start with release {placed.release}",
            code=Code.APP_EXITED if began else Code.SERVICE_FAILED,
            how=runs if began or refusal is None else refusal.why,
            hint=refusal.hint if refusal and refusal.hint else f"`systemctl status {unit}` says more",
            written=log,
            release=placed.release,
        )

    def _main(self, unit: str, state: State, placed: Placed) -> UnitMain:
        async def leave(wait: bool) -> None:
            await systemctl.control("stop", unit, deadline_s=START_S + self._drain_s, wait=wait)

        return UnitMain(placed, state, unit=unit, address="", clock=self._clock, leave=leave)

    async def _set_timers(self, states: Mapping[str, State]) -> None:
        timers = [timer for timer, _ in self._timed.values()]
        if idle := [one for one in timers if states[one].active != "active" and not states[one].disabled]:
            await self._control("start", *idle)

    async def _control(self, verb: str, *units: str) -> None:
        await systemctl.control(verb, *units, deadline_s=START_S + self._drain_s)


def _runs(state: State, placed: Placed) -> bool:
    return state.active == "active" and state.runner is not None and state.runner.release == placed.release


def _process_state(name: str, state: State, *, lacking: bool) -> ProcessState:
    if state.active != "active" or not state.runner:
        why = "the live release has no such process" if lacking and not state.disabled else _why(state)
        return ProcessState(name=name, running=False, why=why)
    return ProcessState(name=name, running=True, release=state.runner.release, pid=state.app_pid)


def _why(state: State) -> str:
    if state.active == "inactive" and state.result == "success":
        return "it is disabled" if state.disabled else "it is stopped"
    return state.why


def _began(service: State) -> int | None:
    """When a unit was last started, to the second, in ms since 1970; None if not in this boot."""
    return round(time.time() - time.monotonic() + service.started_us / 1e6) * 1000 if service.started_us else None


def _timer_state(
    name: str, schedule: str, service: State, times: tuple[int | None, int | None] | None
) -> TimerState:
    last, coming = times or (None, None)
    began = _began(service)
    if began and began > (last or 0) + _BY_HAND_MS:
        last = began
    running = service.active in ("activating", "active", "deactivating")
    ended = bool(service.started_us) and not running
    ending = ""
    if ended and service.exited and service.status == _NO_PROCESS:
        ending = "the live release has no such timer"
    elif ended:
        ending = "exit code 0" if service.result == "success" else service.why
    return TimerState(name=name, schedule=schedule, running=running, last=last, next=coming, ending=ending)
