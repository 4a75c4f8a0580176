"""What wakes the door of a drop directory: the kernel, and a clock only for what the kernel cannot report."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from inotify_simple import INotify
from structlog.testing import capture_logs

from agent.doors.drop.wakeup import Wakeup
from agent.host.clock import SystemClock
from agent.host.drop.directory import OpenDirectory
from agent.host.storage.disk import Disk

DEADLINE_S = 10


class ManualClock(SystemClock):
    """A clock whose pauses end when the test says so."""

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
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "drop/flask-demo"


@pytest.fixture
async def wakeup(path: Path, clock: ManualClock) -> AsyncIterator[Wakeup]:
    one = Wakeup(path, rescan_s=30, clock=clock, log=structlog.get_logger(), step_s=0.01)
    yield one
    await one.close()


@pytest.fixture
def directory(path: Path) -> Iterator[OpenDirectory]:
    path.mkdir(parents=True)
    one = OpenDirectory(path, Disk())
    yield one
    one.close()


@pytest.fixture
async def watched(wakeup: Wakeup, directory: OpenDirectory) -> Wakeup:
    """One that watches, as after a first scan and a second."""
    await wakeup.watch(directory, [])
    assert wakeup.clear()
    await wakeup.watch(directory, [])
    assert not wakeup.clear()
    return wakeup


async def pause(wakeup: Wakeup, clock: ManualClock, *, scanned: bool = True, unreported: bool) -> float:
    """How long it waits when nothing wakes it."""
    async with asyncio.timeout(DEADLINE_S):
        waiting = asyncio.create_task(wakeup.wait(scanned=scanned, unreported=unreported))
        seconds, over = await clock.pauses.get()
        over.set()
        await waiting
    return seconds


async def woken(wakeup: Wakeup) -> None:
    """Return when something wakes it."""
    async with asyncio.timeout(DEADLINE_S):
        await wakeup.wait(scanned=True, unreported=False)
    assert wakeup.clear()


async def test_at_rest_only_the_kernel_wakes_and_no_timer_runs(
    watched: Wakeup, clock: ManualClock, path: Path
) -> None:
    waiting = asyncio.create_task(watched.wait(scanned=True, unreported=False))
    (path / "x.tar.zst").touch()
    async with asyncio.timeout(DEADLINE_S):
        await waiting
    assert clock.pauses.empty()


async def test_a_condition_the_kernel_cannot_report_is_checked_after_longer_and_longer_pauses(
    watched: Wakeup, clock: ManualClock
) -> None:
    assert [await pause(watched, clock, unreported=True) for _ in range(6)] == [5, 10, 20, 40, 60, 60]
    watched.wake()
    await watched.wait(scanned=True, unreported=False)
    assert await pause(watched, clock, unreported=True) == 5


async def test_an_event_ends_a_pause_leaves_no_timer_and_does_not_make_the_next_pause_longer(
    watched: Wakeup, clock: ManualClock
) -> None:
    for _ in range(3):
        waiting = asyncio.create_task(watched.wait(scanned=True, unreported=True))
        async with asyncio.timeout(DEADLINE_S):
            seconds, _over = await clock.pauses.get()
            watched.wake()
            await waiting
        assert (seconds, clock.running) == (5, 0)
        watched.clear()
    waiting = asyncio.create_task(watched.wait(scanned=True, unreported=True))
    async with asyncio.timeout(DEADLINE_S):
        await clock.pauses.get()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert clock.running == 0


async def test_a_scan_that_failed_is_repeated_after_a_time(watched: Wakeup, clock: ManualClock) -> None:
    assert await pause(watched, clock, scanned=False, unreported=False) == 30
    assert [await pause(watched, clock, scanned=False, unreported=True) for _ in range(4)] == [5, 10, 20, 30]


async def test_without_a_watch_a_scan_is_made_now_and_then_and_watching_begins_again_when_it_can(
    wakeup: Wakeup, clock: ManualClock, path: Path, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        for _ in range(2):
            await wakeup.watch(None, [])  # the folder above does not exist
            wakeup.clear()
            assert await pause(wakeup, clock, unreported=False) == 30
        os.mkdir(path.parent)
        await wakeup.watch(None, [])
    assert [entry["event"] for entry in logs] == ["drop_not_watched", "drop_rewatched"]
    assert logs[0]["log_level"] == "error"
    assert wakeup.clear()
    os.mkdir(path)
    await woken(wakeup)


async def test_a_directory_that_is_replaced_wakes(watched: Wakeup, path: Path) -> None:
    os.rename(path, path.with_name("old"))
    await woken(watched)
    os.mkdir(path)
    await woken(watched)


async def test_the_folders_on_the_way_to_what_is_missing_wake_as_far_as_they_exist(
    watched: Wakeup, directory: OpenDirectory, path: Path
) -> None:
    for step in ("tree", "tree/a", "tree/a/b"):
        await watched.watch(directory, ["tree/a/b/file"])
        watched.clear()
        (path / step).mkdir()
        await woken(watched)
    await watched.watch(directory, ["tree/a/b/file"])
    assert watched.clear()
    (path / "tree/a/b/file").touch()
    await woken(watched)


async def test_closing_can_be_asked_for_twice_and_leaves_nothing_open(watched: Wakeup) -> None:
    def queues() -> int:
        return sum("inotify" in os.readlink(f"/proc/self/fd/{number}") for number in open_descriptors())

    def open_descriptors() -> list[str]:
        return [number for number in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{number}").is_symlink()]

    assert queues() == 1
    await watched.close()
    await watched.close()
    assert queues() == 0


async def test_a_watch_that_is_made_when_nobody_wants_it_any_more_leaves_nothing_open(
    wakeup: Wakeup, directory: OpenDirectory
) -> None:
    INotify().close()
    before = set(os.listdir("/proc/self/fd"))
    watching = asyncio.create_task(wakeup.watch(directory, []))
    await asyncio.sleep(0)
    watching.cancel()
    await asyncio.wait([watching])
    assert watching.cancelled()
    assert set(os.listdir("/proc/self/fd")) == before


async def test_a_watch_that_breaks_wakes_and_is_replaced(
    wakeup: Wakeup, directory: OpenDirectory, path: Path
) -> None:
    await wakeup.watch(directory, [])
    (queue,) = (
        int(number)
        for number in os.listdir("/proc/self/fd")
        if (link := Path(f"/proc/self/fd/{number}")).is_symlink() and "inotify" in os.readlink(link)
    )
    os.dup2(directory.descriptor, queue, inheritable=False)  # epoll(7) waits for no folder
    wakeup.clear()
    with capture_logs() as logs:
        await woken(wakeup)
    assert [entry["event"] for entry in logs] == ["drop_watch_broken"]
    await wakeup.watch(directory, [])
    wakeup.clear()
    (path / "x.tar.zst").touch()
    await woken(wakeup)
