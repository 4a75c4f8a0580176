"""What an agent that starts cannot bring in order: it is told until it is mended, and it is tried again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.core.layout import AppLayout
from agent.deploy.recovery import AppRecovery
from agent.deploy.status_line import StatusLine
from agent.host.releases.store import ReleaseStore
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Code, Failed

RELEASE = "20261123020055Z"


class Impatient:
    """A clock on which no pause takes any time."""

    def now(self) -> int:
        return 0

    def elapsed(self) -> float:
        return 0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Failing:
    """A service that cannot start anything so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.started = asyncio.Event()

    def running(self) -> object | None:
        return self if self.started.is_set() else None

    async def wanted(self) -> bool:
        return True

    async def reserve(self) -> None: ...

    async def restart(self, placed: object) -> None:
        if self.times:
            self.times -= 1
            raise Failed(Code.SERVICE_FAILED, "It did not start")
        self.started.set()


class Worn(Disk):
    """Deletes nothing."""

    def _at(self, op: str) -> None:
        if op == "reconcile.discard":
            raise OSError(5, "Input/output error")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    await journal.open()
    yield journal
    await journal.close()


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    layout = AppLayout(tmp_path / "app")
    layout.release(RELEASE).mkdir(parents=True)
    (layout.release(RELEASE) / "REVISION").write_text("v1\n")
    layout.current.symlink_to(f"./releases/{RELEASE}")
    return ReleaseStore(layout)


def recovery(store: ReleaseStore, journal: Journal, service: Any, disk: Disk | None = None) -> AppRecovery:
    def execute(*_: object) -> Any:
        raise AssertionError("nothing was unfinished")

    status_line = StatusLine("app", lambda: None)
    disk, clock = disk or Disk(), Impatient()
    return AppRecovery(
        "app",
        execute=execute,
        store=store,
        disk=disk,
        service=service,
        journal=journal,
        clock=clock,
        status_line=status_line,
    )


async def test_what_does_not_start_is_tried_again_also_after_a_deployment_that_came_to_nothing(
    store: ReleaseStore, journal: Journal
) -> None:
    service = Failing(times=2)
    one = recovery(store, journal, service)
    under_way = [True, True, False]
    await one.recover(taken=lambda: under_way.pop(0) if under_way else False)
    assert one.trouble == "It did not start"
    async with asyncio.timeout(20):
        await service.started.wait()
        while one.trouble:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    assert not under_way


async def test_a_release_whose_very_name_is_damaged_is_started(store: ReleaseStore, journal: Journal) -> None:
    (store.layout.release(RELEASE) / "REVISION").write_bytes(b"v\xff\n")
    service = Failing(times=0)
    await recovery(store, journal, service).recover(taken=lambda: False)
    assert service.started.is_set()


async def test_that_the_live_release_runs_does_not_hide_that_something_else_is_amiss(
    store: ReleaseStore, journal: Journal
) -> None:
    (store.layout.staging / "leftover").mkdir(parents=True)
    one = recovery(store, journal, Failing(times=0), Worn())
    await one.recover(taken=lambda: False)
    assert one.trouble.startswith(f"Could not delete {store.layout.staging}/leftover")
    one.live_now()
    assert one.trouble == ""
