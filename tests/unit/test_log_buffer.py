"""The last lines of an app's output are kept, and a slow reader holds up nothing."""

import asyncio

from agent.host.clock import SystemClock
from agent.host.embedded import log_buffer
from agent.host.embedded.log_buffer import LogBuffer
from pusher.wire import LogUnit


async def read(log: LogBuffer, most: int, unit: str = "") -> list[str]:
    return [line.message async for line in log.lines(most, follow=False, unit=unit)]


async def test_the_last_lines_are_those_of_all_units_or_of_one() -> None:
    log = LogBuffer(SystemClock())
    assert await read(log, 5) == []
    for n in range(4):
        log.add(LogUnit.PREFLIGHT if n % 2 else LogUnit.SERVICE, f"{n}")
    assert await read(log, 3) == ["1", "2", "3"]
    assert await read(log, 0) == []
    assert await read(log, 99, LogUnit.PREFLIGHT) == ["1", "3"]
    for n in range(log_buffer.LINES):
        log.add(LogUnit.SERVICE, f"again {n}")
    assert (await read(log, 10_000))[:1] == ["again 0"]


async def test_a_follower_gets_each_line_when_it_comes() -> None:
    log = LogBuffer(SystemClock())
    log.add(LogUnit.SERVICE, "before")
    following = log.lines(10, follow=True, unit=LogUnit.SERVICE)
    assert (await anext(following)).message == "before"
    next_one = asyncio.ensure_future(anext(following))
    await asyncio.wait([next_one], timeout=0.01)
    log.add(LogUnit.PREFLIGHT, "of another unit")
    log.add(LogUnit.SERVICE, "after")
    async with asyncio.timeout(5):
        assert (await next_one).message == "after"


async def test_a_follower_that_falls_behind_learns_how_far() -> None:
    log = LogBuffer(SystemClock())
    log.add(LogUnit.SERVICE, "first")
    following = log.lines(10, follow=True)
    await anext(following)
    for n in range(log_buffer.LINES + 7):
        log.add(LogUnit.SERVICE, f"{n}")
    assert "7 lines came faster" in (await anext(following)).message
    assert (await anext(following)).message == "7"
