"""Workers and timers of the embedded default: children of the agent that follow what is live."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp
import pytest

from agent.host.run.process import until_pid_ends
from tests.host import APP, Host, running, wsgi

WORKS = """
import os, signal, sys, time
print("works with", os.environ["PUSHER_VERSION"], os.environ["PUSHER_INSTANCE"], flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    time.sleep(60)
"""
DIES = """
print("the reason", flush=True)
raise SystemExit(7)
"""
CHECK = """
import os, sys
print("not yet", flush=True)
sys.exit(os.path.exists("ill"))
"""
NIGHTLY = """
import os
print("nightly with", os.environ["PUSHER_VERSION"], flush=True)
"""
SETTINGS: dict[str, Any] = {
    "processes.worker__start": "python worker.py",
    "processes.worker__instances": 2,
    "processes.worker__drain_s": 3,
    "processes.worker__health": ["python", "check.py"],
    "timers.nightly__start": "python nightly.py",
    "timers.nightly__schedule": "*:*:*",
}


def files(version: str, *, worker: str = WORKS, **more: str) -> dict[str, str]:
    return wsgi(version) | {"worker.py": worker, "check.py": CHECK, "nightly.py": NIGHTLY} | more


async def processes(host: Host) -> dict[str, dict[str, Any]]:
    _, status = await host.request("GET", "/status")
    return {one["name"]: one for one in status["processes"]}


async def runs(host: Host) -> dict[str, str]:
    """The version that each process runs; why not, where it does not run."""
    return {
        name: one["version"] if one["running"] else one["why"] for name, one in (await processes(host)).items()
    }


async def log(host: Host, unit: str) -> str:
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{host.door}") as session,
        session.get(f"/apps/{APP}/logs?unit={unit}") as answer,
    ):
        return (await answer.read()).decode()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that only other processes decide."""
    async with asyncio.timeout(20):
        while not await true():
            await asyncio.wait([asyncio.create_task(asyncio.sleep(0.05))])


@pytest.fixture
async def working(host_off: Host) -> AsyncIterator[Host]:
    """A host with two workers and a timer, and a release v1 that has them."""
    host_off.add_app(APP, **SETTINGS)
    async with running(host_off) as host:
        await host.deploy(files("v1"), "v1")
        yield host


async def test_workers_follow_a_deployment_and_a_rollback(working: Host) -> None:
    assert await runs(working) == {"worker": "v1", "worker-2": "v1"}
    await working.deploy(files("v2"), "v2")
    assert await runs(working) == {"worker": "v2", "worker-2": "v2"}
    _, answer = await working.rollback()
    assert answer["outcome"] == "done"
    assert await runs(working) == {"worker": "v1", "worker-2": "v1"}
    assert "works with v2 2" in await log(working, "worker-2")


async def test_a_release_whose_worker_dies_is_taken_back_worker_included(working: Host) -> None:
    _, answer = await working.send(files("bad", worker=DIES), "bad")
    assert answer["outcome"] == "failed", answer
    assert answer["detail"] == "exit code 7"
    assert "the reason" in answer["output"]
    assert await working.serving() == "v1"
    assert await runs(working) == {"worker": "v1", "worker-2": "v1"}


async def test_a_release_whose_worker_is_not_well_is_taken_back(working: Host) -> None:
    _, answer = await working.send(files("ill", ill=""), "ill")
    assert answer["code"] == "app_unhealthy", answer
    assert "`python check.py` did not end with exit code 0 within 8 s: exit code 1" in answer["detail"]
    assert answer["output"] == "not yet"
    assert await runs(working) == {"worker": "v1", "worker-2": "v1"}


async def test_a_killed_worker_comes_back_by_itself_and_the_other_goes_on(working: Host) -> None:
    before = await processes(working)
    os.kill(before["worker"]["pid"], signal.SIGKILL)

    async def another() -> bool:
        return (await processes(working))["worker"]["pid"] not in (None, before["worker"]["pid"])

    await until(another)
    after = await processes(working)
    assert (after["worker"]["version"], after["worker-2"]) == ("v1", before["worker-2"])


async def test_workers_end_with_their_agent_and_start_with_the_next_one(working: Host) -> None:
    before = await processes(working)
    await working.stop()
    async with asyncio.timeout(10):
        for one in before.values():
            await until_pid_ends(one["pid"])
    await working.start()
    after = await processes(working)
    assert await runs(working) == {"worker": "v1", "worker-2": "v1"}
    assert {one["pid"] for one in after.values()}.isdisjoint(one["pid"] for one in before.values())


async def test_a_program_that_is_not_in_the_venv_is_refused_before_anything_changes(host_off: Host) -> None:
    async with running(host_off) as host:
        await host.deploy(files("v1"), "v1")
    host_off.add_app(APP, **SETTINGS | {"processes.worker__start": "celery -A app worker"})
    async with running(host_off) as host:
        before = host.state()
        _, answer = await host.send(files("v2"), "v2")
        assert (answer["code"], answer["outcome"]) == ("start_not_found", "failed")
        assert "of worker" in answer["title"]
        assert host.state() == before
        assert await host.serving() == "v1"


async def test_a_timer_runs_what_is_live_and_its_end_is_shown(working: Host) -> None:
    async def timer() -> dict[str, Any]:
        _, status = await working.request("GET", "/status")
        return dict(status["timers"][0])

    async def ran(version: str) -> bool:
        return f"nightly with {version}" in await log(working, "nightly")

    async def ended_well() -> bool:
        return bool((await timer())["ending"] == "exit code 0")

    await until(partial(ran, "v1"))
    await working.deploy(files("v2"), "v2")
    await until(partial(ran, "v2"))
    await until(ended_well)
    assert None not in ((await timer())["last"], (await timer())["next"])


async def test_a_time_that_was_missed_is_caught_up_with_once(host_off: Host) -> None:
    host_off.add_app(APP, **SETTINGS | {"timers.nightly__schedule": "*-*-* 03:00"})
    async with running(host_off) as host:
        await host.deploy(files("v1"), "v1")
        assert "nightly" not in await log(host, "nightly")
    record = host_off.layout.timer_record(APP, "nightly")
    await asyncio.to_thread(record.write_text, '{"since": 1700000000000, "last": null, "ending": ""}')
    async with running(host_off) as host:

        async def ran() -> bool:
            return "nightly with v1" in await log(host, "nightly")

        await until(ran)
        _, status = await host.request("GET", "/status")
        assert status["timers"][0]["next"].endswith("T03:00:00.000Z")
        assert (await log(host, "nightly")).count("nightly with") == 1


async def test_a_timer_that_was_taken_out_is_forgotten_and_one_that_was_changed_is_not(host_off: Host) -> None:
    """A later one of that name would catch up with the times in which there was none."""
    timers: dict[str, Any] = {}
    for name in ("nightly", "weekly"):
        timers |= {f"timers.{name}__start": "python nightly.py", f"timers.{name}__schedule": "*-*-* 03:00"}
    host_off.add_app(APP, **timers)
    async with running(host_off) as host:
        await host.deploy(files("v1"), "v1")
        records = {name: host.layout.timer_record(APP, name) for name in ("nightly", "weekly")}
        assert all(record.exists() for record in records.values())
        kept = {key: value for key, value in timers.items() if "weekly" in key}
        host.add_app(APP, **kept | {"timers.weekly__schedule": "Sun 04:00"})
        await host.deploy(files("v2"), "v2")
        assert {name for name, record in records.items() if record.exists()} == {"weekly"}


async def test_a_schedule_that_is_none_is_refused_by_name(host_off: Host) -> None:
    host_off.add_app(APP, **SETTINGS | {"timers.nightly__schedule": "at some time"})
    async with running(host_off) as host:
        _, answer = await host.send(files("v1"), "v1")
    assert answer["title"] == "'timers.nightly.schedule' is 'at some time'"
    assert "calendar" in answer["hint"]
