"""A whole agent that fetches its releases by itself: what is published goes live, and nothing else does."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.machine import Machine
from pusher.wire.channel import Rollout, channel_name
from tests.host import APP, Host, running, wsgi
from tests.publishing import CHANNEL, EagerClock, Publisher

BAD = {"app.py": "raise RuntimeError('no')\n", "requirements.txt": "gunicorn==22.0.0\n"}
DOCUMENT = channel_name(APP, CHANNEL)


@pytest.fixture
def publisher(host_off: Host, tmp_path: Path) -> Publisher:
    """A publisher into a folder, to which the host subscribes."""
    host_off.machine = Machine(clock=EagerClock())
    made = Publisher(tmp_path / "repo", key=host_off.key)
    made.subscribe(host_off)
    return made


@pytest.fixture
async def host(host_off: Host, publisher: Publisher) -> AsyncIterator[Host]:
    async with running(host_off):
        yield host_off


async def channel(host: Host) -> dict[str, Any]:
    """The subscription, as the status has it."""
    status, answer = await host.request("GET", f"/apps/{APP}/status")
    assert status == 200
    return dict(answer["channel"])


async def state(
    host: Host, wanted: str, *, version: str = "", code: str = "", awaited: str = ""
) -> dict[str, Any]:
    """The subscription, once it is in this state."""
    found = await channel(host)
    deadline = time.monotonic() + 30
    while found["state"] != wanted or (version and (found["wanted"] or {}).get("version") != version):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)
        found = await channel(host)
    return found


async def history(host: Host) -> list[dict[str, Any]]:
    _, answer = await host.request("GET", f"/apps/{APP}/releases")
    return list(answer["deployments"])


def releases_of(host: Host) -> list[str]:
    return sorted(one.name for one in host.app.releases.iterdir())


async def test_what_is_published_goes_live_as_if_it_had_been_sent_and_goes_back(
    host: Host, publisher: Publisher
) -> None:
    first_target = await publisher.publish(wsgi("v1"), "v1")
    await state(host, "current", version="v1")
    assert await host.serving() == "v1"
    await publisher.publish(wsgi("v2"), "v2")
    await state(host, "current", version="v2")
    assert await host.serving() == "v2"
    newest, first = await history(host)
    assert {one["by"] for one in (newest, first)} == {"tester (channel stable)"}
    assert [one["kind"] for one in (newest, first)] == ["deploy", "deploy"]
    assert not list(host.layout.fetched(APP).iterdir())
    await asyncio.to_thread(publisher.name, first_target)
    await state(host, "current", version="v1")
    assert await host.serving() == "v1"
    assert (await history(host))[0]["kind"] == "rollback"


async def test_a_failing_release_is_tried_once_for_each_attempt(host: Host, publisher: Publisher) -> None:
    await publisher.publish(wsgi("v1"), "v1")
    await state(host, "current", version="v1")
    bad = await publisher.publish(BAD, "v2")
    found = await state(host, "failed", version="v2")
    assert found["problem"]["code"] in ("app_exited", "app_unhealthy", "socket_not_taken")
    assert await host.serving() == "v1"
    tried = len(await history(host))
    await asyncio.to_thread(publisher.name, bad)  # renewed, with the same attempt
    await asyncio.sleep(0.3)
    assert len(await history(host)) == tried
    await asyncio.to_thread(publisher.name, bad, rollout=Rollout(attempt=2))
    deadline = time.monotonic() + 30
    while len(await history(host)) == tried:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    await state(host, "failed", version="v2")
    assert len(await history(host)) == tried + 1


async def test_a_persons_rollback_holds_until_the_next_release(host: Host, publisher: Publisher) -> None:
    await publisher.publish(wsgi("v1"), "v1")
    await state(host, "current", version="v1")
    second = await publisher.publish(wsgi("v2"), "v2")
    await state(host, "current", version="v2")
    assert (await host.rollback())[0] == 200
    await state(host, "held", version="v2")
    await asyncio.to_thread(publisher.name, second)
    await asyncio.sleep(0.3)
    assert (await channel(host))["state"] == "held"
    assert await host.serving() == "v1"
    await publisher.publish(wsgi("v3"), "v3")
    await state(host, "current", version="v3")


async def test_an_agent_that_was_off_catches_up_by_itself(host_off: Host, publisher: Publisher) -> None:
    async with running(host_off):
        await publisher.publish(wsgi("v1"), "v1")
        await state(host_off, "current", version="v1")
    for version in ("v2", "v3", "v4"):
        await publisher.publish(wsgi(version), version)
    async with running(host_off):
        await state(host_off, "current", version="v4")
        assert [one["version"] for one in await history(host_off)] == ["v4", "v1"]


async def test_without_a_subscription_there_is_no_channel_and_nothing_wakes(host_off: Host) -> None:
    async with running(host_off):
        _, answer = await host_off.request("GET", f"/apps/{APP}/status")
        assert answer["live"] is None
        assert "channel" not in answer
        assert not [one for one in asyncio.all_tasks() if one.get_name().startswith("channel")]
        assert not host_off.layout.fetched(APP).exists()
