"""What an agent that starts cannot recover: its status says so until it is mended, and it retries."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from agent.core.layout import AppLayout
from agent.core.releases import Release, Standing
from agent.deploy.executor import Executor
from agent.deploy.lock import DeploymentLock
from agent.deploy.recovery import AppRecovery
from agent.deploy.status_line import StatusLine
from agent.host.releases.store import ReleaseStore
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Code, Failed
from tests.crash.simulated_service import SimulatedProcesses

RELEASE = "20261123020055Z"


class Impatient:
    """A clock on which no pause takes any time. It releases `lock` at the third pause."""

    def __init__(self, lock: DeploymentLock) -> None:
        self.pauses: list[float] = []
        self._lock = lock

    def now(self) -> int:
        return 0

    def elapsed(self) -> float:
        return 0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.pauses.append(seconds)
        if len(self.pauses) == 3:
            self._lock.release()


class Failing:
    """A service whose start fails so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.started = asyncio.Event()

    def running(self) -> object | None:
        return self if self.started.is_set() else None

    async def wanted(self) -> bool:
        return True

    async def reserve(self) -> None: ...

    async def unreserve(self) -> None: ...

    async def restart(self, placed: object) -> None:
        if self.times:
            self.times -= 1
            raise Failed(Code.SERVICE_FAILED, "It did not start")
        self.started.set()


class Buggy(Failing):
    """A service with a bug of ours, the first time."""

    async def reserve(self) -> None:
        if self.times:
            self.times -= 1
            raise KeyError("socket")


class Slow(Failing):
    """A service that fails once; systemd is slow to say whether the app is wanted the next time."""

    def __init__(self) -> None:
        super().__init__(times=1)
        self.asked, self.says, self.restarts = asyncio.Event(), asyncio.Event(), list[str]()
        self.questions = 0

    async def wanted(self) -> bool:
        self.questions += 1
        if self.questions == 2:
            self.asked.set()
            await self.says.wait()
        return True

    async def restart(self, placed: Any) -> None:
        self.restarts.append(placed.release)
        await super().restart(placed)


class Worn(Disk):
    """A disk that cannot delete."""

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


def recovery(
    store: ReleaseStore,
    journal: Journal,
    service: Any,
    *,
    disk: Disk | None = None,
    lock: DeploymentLock | None = None,
) -> AppRecovery:
    status_line = StatusLine("app", lambda: None)
    lock = lock or DeploymentLock("app")
    return AppRecovery(
        "app",
        executor=cast("Executor", None),  # nothing is unfinished
        lock=lock,
        store=store,
        disk=disk or Disk(),
        service=service,
        processes=SimulatedProcesses(),
        journal=journal,
        clock=Impatient(lock),
        status_line=status_line,
    )


async def test_an_app_that_does_not_start_is_retried_but_not_while_a_deployment_is_under_way(
    store: ReleaseStore, journal: Journal
) -> None:
    service, lock = Failing(times=2), DeploymentLock("app")
    lock.acquire(by="alice", doing="deploying v2")
    one = recovery(store, journal, service, lock=lock)
    await one.recover()
    assert one.trouble == "It did not start"
    async with asyncio.timeout(20):
        await service.started.wait()
        while one.trouble:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
    assert not lock.held


async def test_a_bug_of_ours_in_one_app_is_logged_and_its_trouble_and_the_agent_goes_on(
    store: ReleaseStore, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(store, "version", lambda: {}["version"])
    monkeypatch.setattr(journal, "unfinished", broken)
    service = Buggy(times=1)
    one = recovery(store, journal, service)
    with capture_logs() as logged:
        await one.recover()
        assert "a bug of its own (IndexError: list index out of range)" in one.trouble
        assert "a bug of its own (KeyError: 'socket')" in one.trouble
        async with asyncio.timeout(20):
            await service.started.wait()
    bugs = [type(entry["exc_info"]) for entry in logged if entry["event"] == "internal_error"]
    assert bugs == [IndexError, KeyError, KeyError]


async def test_a_disk_that_does_not_say_what_is_live_ends_no_agent_and_is_asked_again(
    store: ReleaseStore, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, broken = store.live, [True] * 4

    def found() -> str | None:
        if broken:
            broken.pop()
            raise PermissionError(13, "Permission denied", str(store.layout.releases))
        return live()

    monkeypatch.setattr(store, "live", found)
    service = Failing(times=0)
    one = recovery(store, journal, service)
    await one.recover()
    assert "Permission denied" in one.trouble
    async with asyncio.timeout(20):
        await service.started.wait()


async def test_a_release_whose_version_cannot_be_decoded_is_started(store: ReleaseStore, journal: Journal) -> None:
    (store.layout.release(RELEASE) / "REVISION").write_bytes(b"v\xff\n")
    service = Failing(times=0)
    await recovery(store, journal, service).recover()
    assert service.started.is_set()


async def test_a_running_app_does_not_hide_that_something_else_is_wrong(
    store: ReleaseStore, journal: Journal
) -> None:
    (store.layout.staging / "half-built").mkdir(parents=True)
    one = recovery(store, journal, Failing(times=0), disk=Worn())
    await one.recover()
    assert one.trouble.startswith(f"Could not delete {store.layout.staging}/half-built")
    one.went_live()
    assert one.trouble == ""


async def test_what_cannot_be_deleted_does_not_keep_the_rest_from_being_reconciled(
    store: ReleaseStore, journal: Journal
) -> None:
    (store.layout.staging / "half-built").mkdir(parents=True)
    lost = Release(id="20261122000000Z", version="v0", standing=Standing.GOOD, created=1)
    await journal.adopt("app", [lost])
    one = recovery(store, journal, Failing(times=0), disk=Worn())
    await one.recover()
    assert one.trouble.startswith(f"Could not delete {store.layout.staging}/half-built")
    assert await journal.releases("app") == []


async def test_a_retry_that_has_begun_ends_before_a_deployment_begins(
    store: ReleaseStore, journal: Journal
) -> None:
    """It would start what was live when it began, beside what the deployment makes live."""
    service, lock = Slow(), DeploymentLock("app")
    lock.acquire(by="alice", doing="deploying v2")  # the clock releases it at the third pause
    one = recovery(store, journal, service, lock=lock)
    await one.recover()
    await service.asked.wait()
    lock.acquire(by="alice", doing="deploying v2")
    asyncio.get_running_loop().call_later(0.05, service.says.set)
    async with asyncio.timeout(20):
        await one.make_way()
    assert service.restarts == [RELEASE, RELEASE], "it has ended, and did not begin later"
    assert service.started.is_set()
