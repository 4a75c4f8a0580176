"""One timer of the embedded default, alone: it goes on whatever a run meets, and what it says of a run is true."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.core.config.app import AppConfig
from agent.host.clock import SystemClock
from agent.host.embedded.timers import EmbeddedTimer
from agent.host.storage.disk import Disk
from tests.deploy.embedded_place import ME, Place, until
from tests.runs import say_run

HOUR_S = 3600


class Leaping(SystemClock):
    """A clock that leaps over each pause."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.pauses = 0

    def now(self) -> int:
        return super().now() + round(self.ahead_s * 1000)

    async def sleep(self, seconds: float) -> None:
        self.ahead_s += seconds
        self.pauses += 1
        await asyncio.sleep(0.001)


class Full(Disk):
    """A disk that is full as long as `full` says so."""

    full = False

    def _at(self, op: str) -> None:
        if self.full:
            raise OSError(28, "No space left on device")


class One:
    def __init__(self, place: Place) -> None:
        config = {"path": "/opt/demo", "user": ME, "timers": {"hourly": {"schedule": "hourly"}}}
        self.place, self.clock, self.disk, self.lines = place, Leaping(), Full(), list[str]()
        release = place.release("v1")
        say_run(release.path, "python app.py", timers={"hourly": ("python", "-c", "print('ran')")})
        place.current.symlink_to(f"./releases/{release.release}")
        self.record = place.host.timer_record("demo", "hourly")
        self.timer = EmbeddedTimer(
            "demo",
            "hourly",
            AppConfig.model_validate(config),
            host=place.host,
            clock=self.clock,
            disk=self.disk,
            hear=self.lines.append,
        )

    def keep(self, since: int) -> None:
        self.record.parent.mkdir(parents=True)
        self.record.write_text(json.dumps({"since": since, "last": None, "ending": ""}))


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[One]:
    one = One(Place(tmp_path))
    yield one
    await one.timer.end()


async def test_a_timer_goes_on_when_no_process_could_be_started_for_a_while(one: One) -> None:
    await one.timer.start()
    await until(lambda: one.lines)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        pauses = one.clock.pauses
        await until(lambda: one.clock.pauses > pauses + 2 * HOUR_S / 60)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    ran = len(one.lines)
    await until(lambda: len(one.lines) > ran)


async def test_a_run_that_could_not_be_written_down_is_not_said_to_have_been(one: One) -> None:
    await one.timer.start()
    one.disk.full = True
    await until(lambda: one.timer.state().ending)
    assert one.timer.state().last is None
    assert "No space left on device" in one.timer.state().ending
    one.disk.full = False
    await until(lambda: one.lines)
    await until(lambda: one.timer.state().ending == "exit code 0")


async def test_what_was_kept_while_the_clock_was_years_ahead_holds_no_timer_up(one: One) -> None:
    one.keep(int(datetime(2050, 1, 1, tzinfo=UTC).timestamp() * 1000))
    await one.timer.start()
    coming = one.timer.state().next
    assert coming is not None
    assert coming < SystemClock().now() + 2 * HOUR_S * 1000
