"""What an app wrote of late, kept in memory: its log where no journal keeps one.

Invariant: no more than `MOST` lines are kept, however much is written and whoever reads. A reader who falls
further behind than that is told how many lines he missed.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from agent.host.ports import Clock
from pusher.wire import LogLine, LogUnit

MOST = 2_000
"""So many lines are kept. All of them go to the agent's standard error, for whoever wants more."""


class LogBuffer:
    """The last lines of one app. For the event loop alone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: deque[LogLine] = deque(maxlen=MOST)
        self._written = 0
        self._news = asyncio.Event()

    def add(self, unit: LogUnit, text: str) -> None:
        """Keep a line."""
        self._kept.append(LogLine(self._clock.now(), unit, text))
        self._written += 1
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def lines(self, most: int, *, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        """As `Service.log`."""
        kept = [line for line in self._kept if unit in ("", line.unit)]
        read = self._written
        for line in kept[max(0, len(kept) - most) :]:
            yield line
        while follow:
            news = self._news
            fresh = min(self._written - read, len(self._kept))
            if missed := self._written - read - fresh:
                text = f"[{missed} lines came faster than they were read]"
                yield LogLine(self._clock.now(), LogUnit.SERVICE, text)
            new = list(self._kept)[len(self._kept) - fresh :]
            read = self._written
            for line in new:
                if unit in ("", line.unit):
                    yield line
            await news.wait()
