"""The last lines of an app's output, in memory: its log where no journal keeps one.

Invariant: at most `LINES` lines are kept, however much is written and however slowly it is read. A reader that
falls further behind learns how many lines it missed.
"""

from collections import deque
from collections.abc import AsyncIterator

from agent.host.changes import Changes
from agent.host.ports import Clock
from pusher.wire import LogLine, LogUnit

LINES = 2_000
"""How many lines are kept. All lines also go to the agent's standard error."""


class LogBuffer:
    """The last lines of one app. For the event loop only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: deque[LogLine] = deque(maxlen=LINES)
        self._written = 0
        self._changes = Changes()

    def add(self, unit: str, text: str) -> None:
        """Add a line; the oldest goes."""
        self._lines.append(LogLine(self._clock.now(), unit, text))
        self._written += 1
        self._changes.announce()

    async def lines(self, most: int, *, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        """The last `most` lines, and with `follow` every later one, as in `Service.log`."""
        last = [line for line in self._lines if unit in ("", line.unit)]
        read = self._written
        for line in last[max(0, len(last) - most) :]:
            yield line
        while follow:
            change = self._changes.next()
            fresh = min(self._written - read, len(self._lines))
            if missed := self._written - read - fresh:
                text = f"[{missed} lines came faster than they were read]"
                yield LogLine(self._clock.now(), LogUnit.SERVICE, text)
            new = list(self._lines)[len(self._lines) - fresh :]
            read = self._written
            for line in new:
                if unit in ("", line.unit):
                    yield line
            await change.wait()
