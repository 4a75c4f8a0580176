"""The machine's own clock."""

import asyncio
import time


class SystemClock:
    """The `Clock` of a running agent; tests use simulated ones."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def elapsed(self) -> float:
        # CLOCK_BOOTTIME goes on while the machine sleeps: a deadline is meant in people's time.
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
