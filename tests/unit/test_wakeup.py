"""What wakes the door of a drop directory: the kernel, and a clock only for what the kernel cannot tell of."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from agent.doors.drop.wakeup import Wakeup
from agent.host.clock import SystemClock
from agent.host.drop.folder import Dropbox
from agent.host.storage.disk import Disk

DEADLINE_S = 10


class Waited(SystemClock):
    """A clock for which somebody waits until the test lets him go on."""

    def __init__(self) -> None:
        self.pauses: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()
        self.running = 0

    async def sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        self.pauses.put_nowait((seconds, over))
        self.running += 1
        try:
            await over.wait()
        finally:
            self.running -= 1


@pytest.fixture
def clock() -> Waited:
    return Waited()


@pytest.fixture
async def waking(clock: Waited) -> AsyncIterator[Wakeup]:
    one = Wakeup(structlog.get_logger(), rescan_s=30, clock=clock)
    one.open()
    yield one
    one.close()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Dropbox]:
    one = Dropbox(tmp_path, Disk())
    yield one
    one.close()


async def passed(waking: Wakeup, clock: Waited, *, well: bool = True, untold: bool) -> float:
    """How long it waits, with nothing that wakes."""
    async with asyncio.timeout(DEADLINE_S):
        waiting = asyncio.create_task(waking.wait(well=well, untold=untold))
        seconds, over = await clock.pauses.get()
        over.set()
        await waiting
    return seconds


async def test_at_rest_only_the_kernel_wakes_and_no_timer_exists(
    waking: Wakeup, clock: Waited, box: Dropbox
) -> None:
    await waking.watch(box, [])
    assert waking.clear()  # the watch is new
    assert not waking.clear()
    waiting = asyncio.create_task(waking.wait(well=True, untold=False))
    (box.path / "x.tar.zst").touch()
    async with asyncio.timeout(DEADLINE_S):
        await waiting
    assert clock.pauses.empty()


async def test_what_nobody_tells_is_looked_at_after_longer_and_longer_pauses(
    waking: Wakeup, clock: Waited
) -> None:
    assert [await passed(waking, clock, untold=True) for _ in range(6)] == [5, 10, 20, 40, 60, 60]
    waking.wake()
    await waking.wait(well=True, untold=False)
    assert await passed(waking, clock, untold=True) == 5


async def test_an_event_ends_a_pause_and_leaves_no_timer_behind_nor_makes_the_next_longer(
    waking: Wakeup, clock: Waited
) -> None:
    for _ in range(3):
        waiting = asyncio.create_task(waking.wait(well=True, untold=True))
        async with asyncio.timeout(DEADLINE_S):
            seconds, _over = await clock.pauses.get()
            waking.wake()
            await waiting
        assert (seconds, clock.running) == (5, 0)
        waking.clear()
    waiting = asyncio.create_task(waking.wait(well=True, untold=True))
    async with asyncio.timeout(DEADLINE_S):
        await clock.pauses.get()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert clock.running == 0


async def test_a_look_that_failed_is_made_again_by_and_by(waking: Wakeup, clock: Waited) -> None:
    assert await passed(waking, clock, well=False, untold=False) == 30
    assert [await passed(waking, clock, well=False, untold=True) for _ in range(4)] == [5, 10, 20, 30]
