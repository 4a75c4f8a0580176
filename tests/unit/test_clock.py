"""The machine's own clock."""

import time

from agent.host.clock import SystemClock


async def test_time_is_in_milliseconds_and_sleeping_takes_some() -> None:
    clock = SystemClock()
    assert abs(clock.now() - time.time() * 1000) < 5_000
    began = clock.elapsed()
    await clock.sleep(0.01)
    assert clock.elapsed() - began >= 0.009
