"""A fleet in one process: hosts with the product's own door, and the product's own rollout."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent.core.config.app import Subscribe
from agent.host.channel.local_folder import LocalFolder
from pusher.config import Settings
from pusher.fleet.inventory import adopt
from pusher.fleet.survey import Survey, survey
from pusher.fleet.waves import Step, next_step
from pusher.repository.brake import is_braked, release_brake, set_brake
from pusher.wire import Code
from pusher.wire.channel import Rollout, Target
from tests.host import make_key
from tests.publishing import APP, CHANNEL, Publisher
from tests.subscribed_host import PatientClock, SubscribedHost, following

NAMES = ("web1", "web2", "web3", "web4", "web5")
WAVES = Rollout(waves=(("web1",), ("web2", "web3"), 100))


def files(version: str) -> dict[str, str]:
    return {"app.py": version, "requirements.txt": ""}


class Fleet:
    """Five hosts, of which the last one is off, and a publisher."""

    def __init__(self, folder: Path) -> None:
        make_key(folder / "key")
        self.publisher = Publisher(folder / "repo", key=folder / "key")
        self.publisher.trust(folder / "signers")
        self.settings = Settings(app=APP, repository=str(folder / "repo"), fleet=str(folder / "fleet"))
        self.hosts = {name: self._host(folder, name) for name in NAMES}
        self.running = AsyncExitStack()
        for one in self.hosts.values():
            one.root.mkdir()
            one.identity.ensure()
            adopt(folder / "fleet", one.identity.public())

    def _host(self, folder: Path, name: str) -> SubscribedHost:
        return SubscribedHost(
            folder / name,
            [LocalFolder(folder / "repo")],
            signers=folder / "signers",
            name=name,
            clock=PatientClock(),
            settings=Subscribe(repository=["https://unused.example"]),
            reports=True,
        )

    async def start(self, *names: str) -> None:
        for name in names:
            await self.running.enter_async_context(following(self.hosts[name]))

    async def polled(self) -> None:
        """Let every host that runs read the channel twice: once to act, once to report."""
        for one in self.hosts.values():
            if one.running:
                await one.polled(2)

    async def survey(self) -> Survey:
        return await asyncio.to_thread(survey, self.settings, CHANNEL)

    async def run(self) -> Step:
        """The rollout, until it waits, stands still or is done."""
        for _ in range(20):
            await self.polled()
            seen = await self.survey()
            assert seen.signed
            step = next_step(seen.signed.document, seen.places, braked=seen.braked)
            if step.step is Step.BRAKE:
                await asyncio.to_thread(set_brake, seen.repository, APP, CHANNEL, why=step.why)
                return step.step
            if step.step is not Step.OPEN:
                return step.step
            rollout = Rollout(waves=WAVES.waves, open=seen.signed.document.rollout.open + 1)
            await asyncio.to_thread(self.publisher.name, seen.signed.document.target, rollout=rollout)
        raise AssertionError("it never ends")

    def live(self) -> list[str]:
        return [one.live for one in self.hosts.values()]


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    made = await asyncio.to_thread(Fleet, tmp_path)
    async with made.running:
        yield made


async def published(fleet: Fleet, version: str) -> Target:
    return await fleet.publisher.publish(files(version), version, rollout=WAVES)


async def test_a_wave_that_fails_stops_everybody_and_a_good_release_reaches_all(fleet: Fleet) -> None:
    await fleet.start(*NAMES)
    await fleet.publisher.publish(files("v1"), "v1")
    assert await fleet.run() is Step.DONE
    assert fleet.live() == ["v1"] * 5
    await fleet.hosts["web5"].stop()
    fleet.hosts["web1"].bad = {"v2": Code.APP_UNHEALTHY}
    await published(fleet, "v2")
    assert await fleet.run() is Step.BRAKE
    await fleet.polled()
    assert fleet.live() == ["v1"] * 5
    assert fleet.hosts["web1"].shown()["state"] == "failed"
    assert {one.shown()["awaited"] for one in list(fleet.hosts.values())[1:4]} == {"wave"}
    await published(fleet, "v3")
    assert await fleet.run() is Step.STANDS
    assert fleet.live() == ["v1"] * 5
    await asyncio.to_thread(release_brake, fleet.publisher.repository, APP, CHANNEL)
    fleet.hosts["web5"].subscription.started = False
    await fleet.run()
    assert fleet.live() == ["v3"] * 4 + ["v1"]
    await fleet.hosts["web5"].restart()
    assert await fleet.run() is Step.DONE
    assert fleet.live() == ["v3"] * 5
    assert not is_braked(fleet.publisher.repository, APP, CHANNEL)


async def test_a_new_host_on_which_the_release_before_fails_stops_no_rollout(fleet: Fleet) -> None:
    """Nothing is known of the new one by that: it was not tried there."""
    await fleet.start(*NAMES[:4])
    first = await fleet.publisher.publish(files("v1"), "v1")
    assert await fleet.run() is Step.DONE
    fleet.hosts["web5"].bad = {"v1": Code.APP_UNHEALTHY}
    await fleet.publisher.publish(files("v2"), "v2", rollout=WAVES, before=first)
    await fleet.start("web5")
    await fleet.hosts["web5"].until("failed", version="v2")
    await fleet.polled()
    assert [one.state for one in (await fleet.survey()).places][-1] == "failed"
    assert await fleet.run() is Step.DONE
    assert fleet.live() == ["v2"] * 5


async def test_a_brake_that_is_set_before_anybody_begins_holds_everybody(fleet: Fleet) -> None:
    await fleet.start("web1", "web2")
    await asyncio.to_thread(set_brake, fleet.publisher.repository, APP, CHANNEL, why="a person")
    await fleet.publisher.publish(files("v1"), "v1")
    assert await fleet.run() is Step.STANDS
    assert fleet.live() == [""] * 5
