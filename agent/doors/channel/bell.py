"""The bell of a channel: a question that a mirror answers when the channel has changed.

Invariant: a bell is a hint. It makes a host read the channel earlier than it would have; it never replaces a
poll, and a bell that rings without end rings a few times an hour.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from agent.core.backoff import Backoff
from agent.doors.channel.reading import ChannelReader
from agent.host.channel.mirror import Unreachable
from agent.host.ports import Clock
from pusher.wire import Problem

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 900.0
_AT_ONCE_S = 1.0
"""An answer that comes faster than this is one that nobody had to wait for."""
_APART_S = 0.5
"""All hosts hear it at the same moment. They read within this time."""
_HELD_S = 30.0
"""A question that was held for longer was one to a bell, however it ended: a proxy may give up waiting."""


_log = structlog.get_logger()


class Bus(Protocol):
    """Where bells ring and reports are put, beside the mirrors. Raises: Problem, from each."""

    async def bell(self, name: str) -> bool: ...

    async def put(self, name: str, content: bytes) -> None: ...

    async def close(self) -> None: ...


class Bell:
    """Listens to a bell at one mirror after the other, or at the `bus`. `chance` returns a number from 0 to 1."""

    def __init__(
        self,
        name: str,
        *,
        reader: ChannelReader,
        clock: Clock,
        chance: Callable[[], float],
        bus: Bus | None = None,
    ) -> None:
        self._bus = bus
        self._silent = False
        self._name = name
        self._reader = reader
        self._clock = clock
        self._chance = chance
        self._task: asyncio.Task[None] | None = None

    def start(self, rung: Callable[[], None]) -> None:
        """Call `rung` each time it rings."""
        self._task = asyncio.create_task(self._listen(rung), name=f"bell {self._name}")

    async def stop(self) -> None:
        """Listen no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._bus is not None:
            await self._bus.close()

    async def _listen(self, rung: Callable[[], None]) -> None:
        pauses = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            left_alone: list[float] = []
            for mirror in [self._bus] if self._bus else self._reader.in_turn():
                began = self._clock.elapsed()
                try:
                    rang = await mirror.bell(self._name)
                    self._say(None)
                except Problem as problem:
                    self._say(problem)
                    left_alone.append(problem.retry_after_s if isinstance(problem, Unreachable) else 0)
                    if self._clock.elapsed() - began >= _HELD_S:
                        pauses.reset()
                    continue
                except Exception as error:
                    # A bug of ours. A host that is deaf from then on would be worse: nobody would notice.
                    await asyncio.to_thread(_log.error, "bell_broken", bell=self._name, exc_info=error)
                    continue
                if self._clock.elapsed() - began >= _AT_ONCE_S:
                    pauses.reset()
                if rang:
                    await self._clock.sleep(_APART_S * self._chance())
                    rung()
                break
            else:
                pause = pauses.next() * (0.5 + self._chance())
                await self._clock.sleep(max(pause, min(left_alone, default=0) * (1 + self._chance() / 10)))
                continue
            if self._clock.elapsed() - began < _AT_ONCE_S:
                await self._clock.sleep(pauses.next() * (0.5 + self._chance()))

    def _say(self, problem: Problem | None) -> None:
        """Log when the bus falls silent, and when it is heard again. Of mirrors, polls say what is wrong."""
        if self._bus is None or self._silent is (problem is not None):
            return
        self._silent = problem is not None
        if problem is not None:
            _log.warning("bell_silent", bell=self._name, problem=str(problem))
        else:
            _log.info("bell_heard", bell=self._name)
