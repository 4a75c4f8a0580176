"""The door of a subscribed app: what it begins, what it waits for, and what it leaves alone."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent.core.config.app import Subscribe
from agent.doors.channel.subscription import FIRST_PAUSE_S, LONGEST_PAUSE_S
from agent.host.channel.local_folder import LocalFolder
from pusher.wire import Code
from pusher.wire.channel import Rollout, brake_name, channel_name, object_name
from tests.publishing import APP, CHANNEL, Publisher
from tests.subscribed_host import PatientClock, SubscribedHost, following

DOCUMENT = channel_name(APP, CHANNEL)
DAY_MS = 24 * 3600 * 1000


def files(version: str) -> dict[str, str]:
    return {"app.py": version, "requirements.txt": "", "large.txt": "x" * 5_000}


def make_host(publisher: Publisher, *mirrors: Path, name: str = "web1", **settings: object) -> SubscribedHost:
    root = publisher.folder.parent
    members: Mapping[str, object] = {"repository": ["https://unused.example"], **settings}
    return SubscribedHost(
        root / name,
        [LocalFolder(one) for one in mirrors or (publisher.folder,)],
        signers=root / "signers",
        name=name,
        clock=PatientClock(),
        settings=Subscribe.model_validate(members),
    )


@pytest.fixture
async def host(publisher: Publisher) -> AsyncIterator[SubscribedHost]:
    async with following(make_host(publisher)) as one:
        yield one


async def test_what_is_published_is_fetched_and_the_file_is_gone_afterwards(
    host: SubscribedHost, publisher: Publisher
) -> None:
    await publisher.publish(files("v1"), "v1")
    found = await host.until("current", version="v1")
    assert host.live == "v1"
    assert found["channel"] == "stable"
    assert found["mirror"] == f"file://{publisher.folder}"
    assert not list(host.folder.iterdir())


async def test_only_what_the_host_lacks_is_fetched(host: SubscribedHost, publisher: Publisher) -> None:
    await publisher.publish(files("v1"), "v1")
    await host.until("current", version="v1")
    target = await asyncio.to_thread(publisher.put, files("v2"), "v2")
    full, delta = target.bundles
    assert delta.size < full.size
    (publisher.folder / object_name(full.sha256)).unlink()
    await asyncio.to_thread(publisher.name, target)
    await host.until("current", version="v2")


async def test_the_full_bundle_is_fetched_if_the_smaller_one_is_gone(
    host: SubscribedHost, publisher: Publisher
) -> None:
    await publisher.publish(files("v1"), "v1")
    await host.until("current", version="v1")
    target = await asyncio.to_thread(publisher.put, files("v2"), "v2")
    (publisher.folder / object_name(target.bundles[1].sha256)).unlink()
    await asyncio.to_thread(publisher.name, target)
    await host.until("current", version="v2")


async def test_the_full_bundle_is_fetched_if_the_host_lacks_more_than_it_should(
    host: SubscribedHost, publisher: Publisher
) -> None:
    await publisher.publish(files("v1"), "v1")
    await host.until("current", version="v1")
    live = await asyncio.to_thread(host.store.live)
    (host.store.layout.release(live or "") / "large.txt").write_text("edited by hand")
    await publisher.publish(files("v2"), "v2")
    await host.until("current", version="v2")
    assert host.deployed == ["v1", "v2"]


async def test_a_host_that_lacks_nothing_of_its_wave_waits(host: SubscribedHost, publisher: Publisher) -> None:
    first = await asyncio.to_thread(publisher.put, files("v1"), "v1")
    waves = Rollout(waves=(("web7",), 100))
    target = await publisher.publish(files("v2"), "v2", rollout=waves, before=first)
    await host.until("waiting", version="v2", awaited="wave")
    assert host.live == "v1"
    await asyncio.to_thread(publisher.name, target, rollout=replace(waves, open=2), before=first)
    await host.until("current", version="v2")


async def test_nobody_begins_while_the_channel_is_paused(host: SubscribedHost, publisher: Publisher) -> None:
    target = await publisher.publish(files("v1"), "v1", state="paused")
    await host.until("waiting", version="v1", awaited="pause")
    await asyncio.to_thread(publisher.name, target)
    await host.until("current", version="v1")


async def test_nobody_begins_while_any_mirror_has_the_brake(publisher: Publisher, tmp_path: Path) -> None:
    second = tmp_path / "second"
    brake = second / brake_name(APP, CHANNEL)
    brake.parent.mkdir(parents=True)
    brake.touch()
    async with following(make_host(publisher, publisher.folder, second, tmp_path / "gone")) as host:
        await publisher.publish(files("v1"), "v1")
        await host.until("waiting", version="v1", awaited="brake")
        brake.unlink()
        await host.until("current", version="v1")


async def test_an_expired_document_begins_nothing(host: SubscribedHost, publisher: Publisher) -> None:
    await publisher.publish(files("v1"), "v1")
    await host.until("current", version="v1")
    await publisher.publish(files("v2"), "v2", days=-1)
    await host.until("stale", version="v2")
    assert host.live == "v1"


async def test_after_a_month_off_it_catches_up(host: SubscribedHost, publisher: Publisher) -> None:
    await publisher.publish(files("v1"), "v1")
    await host.until("current", version="v1")
    clock = host.clock
    assert isinstance(clock, PatientClock)
    clock.shift = 30 * DAY_MS
    await host.restart()
    await host.until("stale", version="v1")
    clock.shift = 0
    await publisher.publish(files("v2"), "v2")
    await publisher.publish(files("v3"), "v3")
    await host.until("current", version="v3")
    assert host.deployed == ["v1", "v3"]


async def test_a_clock_that_is_a_year_late_is_named_and_harms_nothing(
    host: SubscribedHost, publisher: Publisher
) -> None:
    await publisher.publish(files("v1"), "v1")
    await host.until("current", version="v1")
    clock = host.clock
    assert isinstance(clock, PatientClock)
    clock.shift = -365 * DAY_MS
    found = await host.until("refused", code=Code.FROM_THE_FUTURE)
    assert "clock" in found["problem"]["hint"]
    clock.shift = 0
    await host.until("current", version="v1")


async def test_a_person_holds_until_the_next_release(host: SubscribedHost, publisher: Publisher) -> None:
    await publisher.publish(files("v1"), "v1")
    await host.until("current", version="v1")
    target = await publisher.publish(files("v2"), "v2")
    await host.until("current", version="v2")
    await host.rolled_back("v1")
    await host.until("held", version="v2")
    await asyncio.to_thread(publisher.name, target)
    await host.polled(2)
    assert (host.shown()["state"], host.live) == ("held", "v1")
    await host.restart()
    await host.until("held", version="v2")
    await publisher.publish(files("v3"), "v3")
    await host.until("current", version="v3")


async def test_what_a_person_did_is_shown_at_once_and_not_with_the_next_poll(
    host: SubscribedHost, publisher: Publisher
) -> None:
    await publisher.publish(files("v1"), "v1")
    await host.until("current", version="v1")
    await publisher.publish(files("v2"), "v2")
    await host.until("current", version="v2")
    await host.polled()  # nothing but the person makes it read once more
    await host.rolled_back("v1")
    async with asyncio.timeout(10):
        while host.shown()["state"] != "held":  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


async def test_a_failed_release_is_tried_again_only_with_another_attempt(
    host: SubscribedHost, publisher: Publisher
) -> None:
    await publisher.publish(files("v1"), "v1")
    await host.until("current", version="v1")
    host.bad = {"v2": Code.APP_UNHEALTHY}
    target = await publisher.publish(files("v2"), "v2")
    found = await host.until("failed", version="v2", code=Code.APP_UNHEALTHY)
    assert host.live == "v1"
    await host.restart()
    await asyncio.to_thread(publisher.name, target)
    await host.polled(2)
    host.bad = {}
    await host.polled(2)
    assert host.shown()["state"] == found["state"]
    await asyncio.to_thread(publisher.name, target, rollout=Rollout(attempt=2))
    await host.until("current", version="v2")


async def test_a_deployment_that_was_cut_off_is_tried_three_times(
    host: SubscribedHost, publisher: Publisher
) -> None:
    host.bad = {"v1": Code.INTERRUPTED}
    await publisher.publish(files("v1"), "v1")
    await host.until("failed", version="v1", code=Code.INTERRUPTED)
    assert len(await host.journal.history(APP, most=10)) == 3


async def test_a_fleet_goes_back_to_what_is_kept(host: SubscribedHost, publisher: Publisher) -> None:
    first = await publisher.publish(files("v1"), "v1")
    await host.until("current", version="v1")
    await publisher.publish(files("v2"), "v2")
    await host.until("current", version="v2")
    for name in (publisher.folder / "bundles").iterdir():
        name.unlink()
    await asyncio.to_thread(publisher.name, first)
    await host.until("current", version="v1")
    assert host.live == "v1"


async def test_what_is_not_kept_and_older_than_what_was_accepted_is_not_fetched(
    publisher: Publisher,
) -> None:
    first = await asyncio.to_thread(publisher.put, files("v1"), "v1")
    await publisher.publish(files("v2"), "v2")
    async with following(make_host(publisher)) as host:
        await host.until("current", version="v2")
        await asyncio.to_thread(publisher.name, first)
        await host.until("ahead", version="v1")
        assert host.live == "v2"


async def test_it_waits_for_a_deployment_under_way(host: SubscribedHost, publisher: Publisher) -> None:
    host.lock.acquire(by="alice", doing="deploying v9")
    await publisher.publish(files("v1"), "v1")
    await host.until("waiting", version="v1", awaited="turn")
    host.lock.release()
    await host.until("current", version="v1")


async def test_outside_of_its_window_nothing_begins(publisher: Publisher) -> None:
    async with following(make_host(publisher)) as host:
        await publisher.publish(files("v1"), "v1")
        await host.until("current", version="v1")
    later = datetime.now().astimezone() + timedelta(hours=2)
    window = f"{later:%H}:00..{later:%H}:59"
    async with following(make_host(publisher, window=window)) as host:
        await publisher.publish(files("v2"), "v2")
        await host.until("waiting", version="v2", awaited="window")


async def test_no_window_passes_between_two_polls(publisher: Publisher) -> None:
    """Who has a bell asks seldom, and a window is short."""
    async with following(make_host(publisher)) as host:
        await publisher.publish(files("v1"), "v1")
        await host.until("current", version="v1")
    later = datetime.now().astimezone() + timedelta(hours=2)
    opens = later.replace(minute=0, second=0, microsecond=0)
    async with following(make_host(publisher, window=f"{later:%H}:00..{later:%H}:10", poll_s=86_400)) as host:
        clock = host.clock
        assert isinstance(clock, PatientClock)
        await publisher.publish(files("v2"), "v2")
        await host.until("waiting", version="v2", awaited="window")
        await host.polled()
        left = opens.timestamp() - clock.now() / 1000
        assert left - 1 < clock.pauses[-1] < left + 10 * 60
        clock.shift = int(left + 60) * 1000
        await host.until("current", version="v2")


async def test_a_host_that_is_spread_waits_just_that_long(publisher: Publisher) -> None:
    async with following(make_host(publisher)) as host:
        await publisher.publish(files("v1"), "v1")
        await host.until("current", version="v1")
        await publisher.publish(files("v2"), "v2", rollout=Rollout(spread_s=40))
        await host.until("waiting", version="v2", awaited="spread")
        clock = host.clock
        assert isinstance(clock, PatientClock)
        await host.polled()
        assert 0 < clock.pauses[-1] <= 41
        clock.shift = 40_000
        await host.until("current", version="v2")


async def test_the_pauses_after_failures_grow_to_a_quarter_of_an_hour_and_differ(host: SubscribedHost) -> None:
    await host.until("unreachable", code=Code.REPOSITORY_UNREACHABLE)
    clock = host.clock
    assert isinstance(clock, PatientClock)
    await host.polled(10)
    assert FIRST_PAUSE_S / 2 <= clock.pauses[0] <= FIRST_PAUSE_S * 1.5
    assert LONGEST_PAUSE_S / 2 <= clock.pauses[-1] <= LONGEST_PAUSE_S * 1.5


async def test_polls_are_a_minute_apart_and_no_two_hosts_keep_step(
    host: SubscribedHost, publisher: Publisher
) -> None:
    await publisher.publish(files("v1"), "v1")
    await host.until("current", version="v1")
    await host.polled(5)
    clock = host.clock
    assert isinstance(clock, PatientClock)
    pauses = clock.pauses[-4:]
    assert all(30 <= one <= 90 for one in pauses)
    assert len({*pauses}) == 4


async def test_of_two_mirrors_one_may_be_gone_and_one_a_day_behind(publisher: Publisher, tmp_path: Path) -> None:
    behind = tmp_path / "behind"
    await publisher.publish(files("v1"), "v1")
    (behind / DOCUMENT).parent.mkdir(parents=True)
    (behind / DOCUMENT).write_bytes((publisher.folder / DOCUMENT).read_bytes())
    await publisher.publish(files("v2"), "v2")
    async with following(make_host(publisher, tmp_path / "gone", publisher.folder, behind)) as host:
        await host.until("current", version="v2")
        await host.polled(3)
        assert (host.shown()["state"], host.live) == ("current", "v2")


async def test_a_subscription_can_be_woken(host: SubscribedHost, publisher: Publisher) -> None:
    await host.until("unreachable")
    await publisher.publish(files("v1"), "v1")
    host.subscription.wake()
    async with asyncio.timeout(10):
        while host.live != "v1":  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
