"""Several mirrors of one channel: in which order a host asks them, and what it asks of each."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.core.config.app import Subscribe
from agent.host.channel.local_folder import LocalFolder
from agent.host.channel.mirror import Answer, Unreachable
from agent.host.storage.partial import Partial
from pusher.wire.channel import brake_name, split_signed
from pusher.wire.report import Report
from tests.publishing import APP, CHANNEL, Publisher
from tests.subscribed_host import PatientClock, SubscribedHost, following

FILES = {"app.py": "v1", "requirements.txt": ""}


class Observed(LocalFolder):
    """A mirror that knows what it was asked, in order, and which reports came; `gone`: it answers nothing."""

    def __init__(self, path: Path, *, gone: bool = False) -> None:
        super().__init__(path)
        self.gone = gone
        self.asked: list[str] = []
        self.states: list[str] = []
        self.together: asyncio.Barrier | None = None
        """Where questions for the brake wait for each other."""

    async def read(self, name: str, *, most: int, tag: str = "") -> Answer | None:
        self._ask("read")
        return await super().read(name, most=most, tag=tag)

    async def exists(self, name: str) -> bool:
        if self.together:
            await self.together.wait()
        self._ask("exists")
        return await super().exists(name)

    async def fetch(self, name: str, into: Partial) -> None:
        self._ask("fetch")
        await super().fetch(name, into)

    async def put(self, name: str, content: bytes) -> None:
        self._ask("put")
        self.states.append(Report.from_bytes(split_signed(content)[0]).state)
        await super().put(name, content)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.gone:
            raise Unreachable(f"{self.address} does not answer")


def host_of(publisher: Publisher, mirrors: Sequence[Observed]) -> SubscribedHost:
    root = publisher.folder.parent
    return SubscribedHost(
        root / "web1",
        mirrors,
        signers=root / "signers",
        clock=PatientClock(),
        settings=Subscribe(repository=["https://unused.example"]),
        reports=True,
    )


async def reported(mirror: Observed, state: str) -> None:
    async with asyncio.timeout(10):
        while state not in mirror.states:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


async def test_a_release_costs_a_host_five_requests_and_one_report(publisher: Publisher) -> None:
    """The document, the brake, the bundle, the brake once more, and how it ended."""
    mirror = Observed(publisher.folder)
    await publisher.publish(FILES, "v1")
    async with following(host_of(publisher, [mirror])):
        await reported(mirror, "current")
    assert mirror.asked == ["read", "exists", "fetch", "exists", "put"]
    assert mirror.states == ["current"]


async def test_a_mirror_that_does_not_answer_is_asked_last_until_the_next_poll(
    publisher: Publisher, tmp_path: Path
) -> None:
    gone, other = Observed(tmp_path / "gone", gone=True), Observed(publisher.folder)
    await publisher.publish(FILES, "v1")
    async with following(host_of(publisher, [gone, other])) as host:
        await reported(other, "current")
        assert gone.asked == ["read", "exists", "exists"]
        await host.polled()
        assert gone.asked[3:] == ["read"]


async def test_all_mirrors_are_asked_for_the_brake_at_the_same_time(publisher: Publisher) -> None:
    mirrors = [Observed(publisher.folder), Observed(publisher.folder)]
    together = asyncio.Barrier(2)
    for one in mirrors:
        one.together = together
    await publisher.publish(FILES, "v1")
    async with following(host_of(publisher, mirrors)):
        await reported(mirrors[0], "current")


@pytest.mark.parametrize("gone", [0, 1])
async def test_a_brake_counts_also_where_another_mirror_is_gone(
    publisher: Publisher, tmp_path: Path, gone: int
) -> None:
    mirrors = [Observed(publisher.folder), Observed(publisher.folder)]
    mirrors[gone] = Observed(tmp_path / "gone", gone=True)
    brake = publisher.folder / brake_name(APP, CHANNEL)
    await publisher.publish(FILES, "v1")
    brake.parent.mkdir(parents=True)
    brake.write_text("")
    async with following(host_of(publisher, mirrors)) as host:
        await host.until("waiting", awaited="brake")
        assert "fetch" not in mirrors[1 - gone].asked


async def test_where_no_mirror_answers_for_the_brake_nothing_begins(publisher: Publisher) -> None:
    class Half(Observed):
        async def exists(self, name: str) -> bool:
            raise Unreachable(f"{self.address} does not answer")

    mirrors = [Half(publisher.folder), Half(publisher.folder)]
    await publisher.publish(FILES, "v1")
    async with following(host_of(publisher, mirrors)) as host:
        await host.until("unreachable")
        assert not host.live
        assert "fetch" not in mirrors[0].asked


async def test_a_bug_in_a_report_does_not_end_the_subscription(publisher: Publisher) -> None:
    class Buggy(Observed):
        async def put(self, name: str, content: bytes) -> None:
            self.asked.append("put")
            raise RuntimeError("a bug")

    mirror = Buggy(publisher.folder)
    async with following(host_of(publisher, [mirror])) as host:
        await host.polled()
        await publisher.publish(FILES, "v1")
        await host.polled()
        assert host.live == "v1"
    assert mirror.asked.count("put") > 1


async def test_a_folder_that_may_not_be_looked_into_has_no_word_about_the_brake(as_nobody: Path) -> None:
    folder = LocalFolder(as_nobody)
    assert not await folder.exists(brake_name(APP, CHANNEL))
    (as_nobody / "brakes").mkdir(mode=0o000)
    with pytest.raises(Unreachable, match="Permission denied"):
        await folder.exists(brake_name(APP, CHANNEL))
