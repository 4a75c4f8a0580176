"""The main process of a release that systemd started: the `Running` of the systemd service.

Invariant: one run of a unit is known by its invocation id, so its end and its output are never those of another
run.
"""

import asyncio
from collections.abc import Callable, Coroutine

from agent.host.net.accepting import accepts_at
from agent.host.ports import Clock, Placed
from agent.host.run.process import until_pid_ends
from agent.host.systemd import systemctl
from agent.host.systemd.systemctl import State
from pusher.wire import Failed

_SETTLED_S = 2.0
_LOG_S = 1.0
_DISMISSAL_S = 1.0
_POLL_S = 0.02
REPLACED = "another process took its place"
"""How a run has ended whose runner goes on with another release: somebody has reloaded the unit."""

_EXIT_LOGGED = "process exited, code="
"""systemd logs this about an end (its messages are not translated), after the unit's own lines."""


class UnitMain:
    """`Running`: one run of `unit`. `leave(wait)` ends it; with `wait`, it returns when that is done."""

    def __init__(
        self,
        placed: Placed,
        state: State,
        *,
        unit: str,
        address: str,
        clock: Clock,
        leave: Callable[[bool], Coroutine[None, None, None]],
    ) -> None:
        self.placed = placed
        self.address = address
        self.state = state
        self._unit = unit
        self._clock = clock
        self._leave = leave
        self._ended = asyncio.create_task(until_pid_ends(state.app_pid))

    async def wait(self) -> str:
        await asyncio.wait({self._ended})
        return await self._find_out()

    async def tail(self) -> str:
        began, text = self._clock.elapsed(), ""
        while self._clock.elapsed() - began < _LOG_S:
            # A run may have begun with other releases.
            since_us = self.state.runner.started_us if self.state.runner else 0
            text = await systemctl.log_of(self.state.invocation, since_us=since_us)
            if self.alive or _EXIT_LOGGED in text:
                break
            await self._clock.sleep(_POLL_S)  # the journal is written a moment after the fact
        return text

    async def end(self) -> None:
        await self._leave(True)

    def dismiss(self) -> None:
        self._dismissal = asyncio.create_task(self._leave_later())  # the loop itself holds tasks only weakly

    async def accepts(self) -> bool:
        return await asyncio.to_thread(accepts_at, self.address)

    @property
    def alive(self) -> bool:
        """Whether its main process runs, as far as we know."""
        return not self._ended.done()

    def forget(self) -> None:
        """Stop watching it."""
        self._ended.cancel()

    async def _leave_later(self) -> None:
        # Its end costs half as much as a start: the restart that follows now goes first.
        await self._clock.sleep(_DISMISSAL_S)
        await self._leave(False)

    async def _find_out(self) -> str:
        """How it ended. systemd learns of it at the same moment as we do, so it may not know yet."""
        began = self._clock.elapsed()
        while True:
            try:
                state = await systemctl.state_of(self._unit)
            except Failed as problem:
                return f"its main process ended, and {problem.what}: {problem.why}"
            if state.invocation != self.state.invocation:
                # Its socket was open: the next request, perhaps our own, let systemd start it again.
                return systemctl.end_in(await self.tail()) or "its main process ended, and was started again since"
            if state.pid != self.state.pid or not state.pid:
                return state.why
            if state.app_pid != self.state.app_pid:
                return REPLACED
            if self._clock.elapsed() - began > _SETTLED_S:
                return "its main process ended"
            await self._clock.sleep(_POLL_S)
