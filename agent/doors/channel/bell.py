"""The bell of a channel: a question that a mirror answers when the channel has changed.

Invariant: a bell is a hint. It makes a host read the channel earlier than it would have; it never replaces a
poll, and a bell that rings without end rings a few times an hour.
"""

import asyncio
from collections.abc import Callable

from agent.core.backoff import Backoff
from agent.doors.channel.reading import ChannelReader
from agent.host.ports import Clock
from pusher.wire import Problem

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 900.0
_AT_ONCE_S = 1.0
"""An answer that comes faster than this is one that nobody had to wait for."""
_APART_S = 0.5
"""All hosts hear it at the same moment. They read within this time."""


class Bell:
    """Listens to a bell at one mirror after the other. `chance` returns a number from 0 to 1."""

    def __init__(self, name: str, *, reader: ChannelReader, clock: Clock, chance: Callable[[], float]) -> None:
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

    async def _listen(self, rung: Callable[[], None]) -> None:
        pauses = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            for mirror in self._reader.in_turn():
                began = self._clock.elapsed()
                try:
                    rang = await mirror.bell(self._name)
                except Problem:  # polls say what is wrong with a mirror
                    continue
                if self._clock.elapsed() - began >= _AT_ONCE_S:
                    pauses.reset()
                if rang:
                    await self._clock.sleep(_APART_S * self._chance())
                    rung()
                break
            else:
                await self._clock.sleep(pauses.next() * (0.5 + self._chance()))
                continue
            if self._clock.elapsed() - began < _AT_ONCE_S:
                await self._clock.sleep(pauses.next() * (0.5 + self._chance()))
