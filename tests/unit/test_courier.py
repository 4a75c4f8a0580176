"""The courier empties the queue of notices, whatever the receiver does, and loses none of them."""

import asyncio
import base64
import hashlib
import hmac
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from agent.core.notice import KEPT_MS, LONGEST_PAUSE_S, Ending, Notice
from agent.core.phases import Phase
from agent.core.plan import Attempt, Kind
from agent.host.notices.courier import Courier
from agent.host.notices.way import Undelivered, Way
from agent.host.notices.web import Webhook, WebhookFiles
from agent.host.storage.database import Database
from agent.host.storage.journal import Journal
from agent.host.storage.notices import MOST
from pusher.wire import Code, Failed
from tests.receiver import Receiver, certificate, receiving
from tests.subscribed_host import PatientClock

EVERY = frozenset({Ending.DONE, Ending.FAILED, Ending.STUCK, Ending.ROLLED_BACK})


class Post:
    """A journal, and the courier of its host, which tests stop and start."""

    def __init__(
        self, path: Path, *, wanted: frozenset[Ending] = EVERY, database: type[Database] = Database
    ) -> None:
        self.clock = PatientClock()
        self.journal = Journal(path / "journal.sqlite", database=database, notify={"web": wanted})
        self.ended = 0

    async def end(self, *, phase: Phase = Phase.DONE, kind: Kind = Kind.DEPLOY, version: str = "v3") -> str:
        """A deployment that begins and ends; its id."""
        self.ended += 1
        time = f"20261127{self.ended:06d}Z"
        attempt = Attempt(
            id=f"shop-{time}", app="shop", kind=kind, release=time, version=version, previous=None, by="alice"
        )
        now = self.clock.now()
        await self.journal.begin(attempt, manifest="m", created=now, now=now - 5_000)
        problem = None if phase is Phase.DONE else Failed(Code.APP_EXITED, "The app ended", why="exit code 3")
        await self.journal.finish(attempt, phase, now=now, problem=problem)
        return attempt.id

    def courier(self, way: Way) -> Courier:
        return Courier({"web": way}, host="web1", journal=self.journal, clock=self.clock, chance=lambda: 0.5)

    @asynccontextmanager
    async def delivering(self, way: Way) -> AsyncIterator[Courier]:
        courier = self.courier(way)
        await courier.start()
        try:
            yield courier
        finally:
            await courier.stop()

    async def state(self, **wanted: Any) -> dict[str, Any]:
        """Wait until these members of the way's state are so; all of them."""
        courier = self.courier(Webhook("http://127.0.0.1:1", form="json", clock=self.clock))
        async with asyncio.timeout(20):
            while True:
                [found] = await courier.summary()
                if all(found[key] == value for key, value in wanted.items()):
                    return found
                await asyncio.sleep(0.005)

    def webhook(self, url: str, **more: Any) -> Webhook:
        return Webhook(url, **{"form": "json", "clock": self.clock, "environment": {}, **more})


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    opened = Post(tmp_path)
    await opened.journal.open()
    yield opened
    await opened.journal.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.005)


async def test_each_end_is_told_once_and_in_order(post: Post, receiver: Receiver):
    first = await post.end()
    async with post.delivering(post.webhook(f"{receiver.url}/hook?a=b")):
        second = await post.end(phase=Phase.FAILED)
        found = await receiver.count(2)
        await post.state(waiting=0)
    assert [json.loads(one.body)["id"] for one in found] == [first, second]
    assert {one.path for one in found} == {"/hook?a=b"}
    assert json.loads(found[1].body)["problem"] == {
        "code": "app_exited", "title": "The app ended", "detail": "exit code 3"
    }  # fmt: skip
    async with post.delivering(post.webhook(receiver.url)):
        await post.end()
        await receiver.count(3)
    assert len(receiver.received) == 3


async def test_only_the_endings_that_root_named_are_told(tmp_path: Path, receiver: Receiver):
    post = Post(tmp_path, wanted=frozenset({Ending.STUCK, Ending.ROLLED_BACK}))
    await post.journal.open()
    for phase, kind in (
        (Phase.DONE, Kind.DEPLOY),
        (Phase.FAILED, Kind.DEPLOY),
        (Phase.STUCK, Kind.DEPLOY),
        (Phase.DONE, Kind.ROLLBACK),
    ):
        await post.end(phase=phase, kind=kind)
    async with post.delivering(post.webhook(receiver.url)):
        await receiver.count(2)
        await post.state(waiting=0)
    assert [json.loads(one.body)["event"] for one in receiver.received] == ["stuck", "rolled_back"]
    await post.journal.close()


async def test_a_receiver_that_answers_500_is_asked_again_after_longer_pauses(post: Post, receiver: Receiver):
    receiver.answers = [(500, {}, "we are <down>\r\n\x1b[31m")] * 3
    await post.end()
    async with post.delivering(post.webhook(f"{receiver.url}/secret-path")):
        for failures in (1, 2, 3):
            found = await post.state(failures=failures)
            assert found["problem"] == f"{receiver.url} answered 500: we are <down> [31m"
            assert found["waiting"] == 1
            assert found["next"]
            await until(lambda failures=failures: len(post.clock.pauses) == failures)
            post.clock.shift += round(post.clock.pauses[-1] * 1000) + 1
            post.clock.end()
        await receiver.count(4)
        found = await post.state(waiting=0)
    assert [round(pause) for pause in post.clock.pauses] == [5, 10, 20]
    assert (found["problem"], found["failures"], found["next"], found["since"]) == ("", 0, None, None)
    assert len({json.loads(one.body)["id"] for one in receiver.received}) == 1


async def test_retry_after_is_kept_also_over_a_restart(post: Post, receiver: Receiver):
    receiver.answers = [(429, {"Retry-After": "3600"}, "")]
    await post.end()
    async with post.delivering(post.webhook(receiver.url)):
        await until(lambda: post.clock.pauses)
    assert 3_600 <= post.clock.pauses[-1] <= 3_960
    post.clock.shift += 1_800_000
    async with post.delivering(post.webhook(receiver.url)):
        await until(lambda: len(post.clock.pauses) == 2)
        await post.end()
        await until(lambda: len(post.clock.pauses) == 3)  # another notice does not shorten it
        assert len(receiver.received) == 1
        assert 1_800 <= post.clock.pauses[-1] <= 2_160
        post.clock.shift += 2_200_000
        post.clock.end()
        await receiver.count(3)


async def test_retry_after_may_be_a_date(post: Post, receiver: Receiver):
    at = post.clock.now() / 1000 + 600
    receiver.answers = [(503, {"Retry-After": formatdate(at, usegmt=True)}, "")]
    await post.end()
    async with post.delivering(post.webhook(receiver.url)):
        await until(lambda: post.clock.pauses)
    assert 590 <= post.clock.pauses[-1] <= 660


async def test_a_clock_that_was_set_back_ends_no_delivery_for_ever(post: Post, receiver: Receiver):
    receiver.answers = [(500, {}, "")]
    post.clock.shift = 10 * 365 * 24 * 3_600 * 1000
    await post.end()
    async with post.delivering(post.webhook(receiver.url)):
        await post.state(failures=1)
        await until(lambda: post.clock.pauses)
        post.clock.shift = 0
        post.clock.end()
        await receiver.count(2)


async def test_at_rest_the_courier_sleeps_without_an_end(post: Post, receiver: Receiver):
    async with post.delivering(post.webhook(receiver.url)):
        await post.end()
        await receiver.count(1)
        await post.state(waiting=0)
        assert post.clock.pauses == []


async def test_a_notice_that_is_refused_as_such_does_not_hold_up_others(post: Post, receiver: Receiver):
    receiver.answers = [(400, {}, "invalid_payload")]
    await post.end()
    await post.end()
    async with post.delivering(post.webhook(receiver.url)) as courier:
        await receiver.count(2)
        found = await post.state(waiting=0)
        assert (found["left_out"], found["failures"]) == (1, 0)
        assert found["problem"] == f"{receiver.url} answered 400: invalid_payload"
        assert (await courier.test())[0]["problem"] == ""
        assert (await post.state(left_out=0))["problem"] == ""


async def test_what_waited_for_three_days_is_left_out(post: Post, receiver: Receiver):
    receiver.answers = [(500, {}, "")]
    await post.end()
    async with post.delivering(post.webhook(receiver.url)):
        await post.state(failures=1)
        await until(lambda: post.clock.pauses)
        post.clock.shift += KEPT_MS + 1
        last = await post.end()
        post.clock.end()
        found = await receiver.count(2)
        assert json.loads(found[1].body)["id"] == last
        assert (await post.state(waiting=0))["left_out"] == 1


async def test_the_queue_has_a_longest_length_and_keeps_the_newest(post: Post, receiver: Receiver, tmp_path: Path):
    await post.end()
    second = await post.end()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        rows = [("web", second)] * (MOST - 1)
        db.executemany("insert into notices (way, deployment) values (?, ?)", rows)
    db.close()
    await post.end()
    found = await post.state(waiting=MOST)
    assert (found["left_out"], found["problem"]) == (2, "too many were waiting")
    async with post.delivering(post.webhook(receiver.url)):
        assert json.loads((await receiver.count(1))[0].body)["id"] == second


async def test_a_way_that_root_took_away_leaves_nothing_waiting(tmp_path: Path):
    post = Post(tmp_path)
    await post.journal.open()
    await post.end()
    await post.journal.close()
    without = Journal(tmp_path / "journal.sqlite")
    await without.open()
    courier = Courier({}, host="web1", journal=without, clock=post.clock)
    await courier.start()
    assert await courier.summary() == []
    assert (await without.notices.state("web")).waiting == 0
    await courier.stop()
    await without.close()


async def test_a_redirect_to_another_host_is_not_followed(post: Post, receiver: Receiver):
    async with receiving() as other:
        receiver.answers = [(307, {"Location": f"{other.url}/elsewhere?token=x"}, "")]
        await post.end()
        async with post.delivering(post.webhook(receiver.url)):
            found = await post.state(failures=1)
        assert other.received == []
        assert f"it redirects to {other.url}, and redirects are not followed" in found["problem"]
    for location, words in (("/there", "the same host"), ("http://[", "an address that is none")):
        receiver.answers = [(301, {"Location": location}, "")]
        with pytest.raises(Undelivered, match=words):
            await post.webhook(receiver.url).deliver(trial())


def trial() -> Notice:
    return Notice(id="test-1", host="web1", ending=Ending.TEST, app="", version="", time=1, started=1)


async def test_a_certificate_that_is_wrong_is_said_and_tried_again(post: Post, tmp_path: Path):
    pem, context = await asyncio.to_thread(certificate, tmp_path)
    async with receiving(tls=context) as receiver:
        await post.end()
        async with post.delivering(post.webhook(f"{receiver.url}/secret")):
            found = await post.state(failures=1)
            assert "certificate verify failed" in found["problem"].lower()
            assert "secret" not in found["problem"]
        assert receiver.received == []
        post.clock.shift += int(LONGEST_PAUSE_S * 1000)
        files = WebhookFiles(authorities=pem)
        async with post.delivering(post.webhook(receiver.url, files=files)):
            await receiver.count(1)
            await post.state(waiting=0)


async def test_a_receiver_that_does_not_answer_is_left_after_a_while(post: Post, receiver: Receiver):
    receiver.open.clear()
    await post.end()
    async with post.delivering(post.webhook(receiver.url, total_s=0.1)):
        assert (await post.state(failures=1))["problem"] == f"{receiver.url} does not answer: no answer in time"
    with pytest.raises(Undelivered, match=r"^http://127.0.0.1:1 does not answer"):
        await post.webhook("http://127.0.0.1:1/secret").deliver(trial())


async def test_a_test_arrives_at_once_and_ends_the_pause(post: Post, receiver: Receiver):
    receiver.answers = [(500, {}, ""), (403, {}, "no"), (204, {}, "")]
    await post.end()
    async with post.delivering(post.webhook(receiver.url)) as courier:
        await post.state(failures=1)
        [refused] = await courier.test()
        assert refused["problem"] == f"{receiver.url} answered 403: no"
        assert await courier.test() == [{"way": "web", "address": receiver.url, "problem": ""}]
        found = await receiver.count(4)
        await post.state(waiting=0)
    assert json.loads(found[2].body)["event"] == "test"
    assert json.loads(found[3].body)["event"] == "done"


async def test_a_secret_signs_each_request_as_standard_webhooks_do(post: Post, receiver: Receiver, tmp_path: Path):
    (tmp_path / "secret").write_text("whsec_" + base64.b64encode(b"root's own").decode() + "\n")
    name = await post.end()
    files = WebhookFiles(secret=tmp_path / "secret")
    async with post.delivering(post.webhook(receiver.url, files=files)):
        [one] = await receiver.count(1)
    assert one.headers["webhook-id"] == name
    content = f"{name}.{one.headers['webhook-timestamp']}.".encode() + one.body
    wanted = base64.b64encode(hmac.new(b"root's own", content, hashlib.sha256).digest()).decode()
    assert one.headers["webhook-signature"] == f"v1,{wanted}"
    assert abs(int(one.headers["webhook-timestamp"]) * 1000 - post.clock.now()) < 60_000


async def test_files_of_root_are_read_for_each_notice_and_named_when_they_are_wrong(
    post: Post, receiver: Receiver, tmp_path: Path
):
    address, login, secret = tmp_path / "url", tmp_path / "netrc", tmp_path / "secret"
    files = WebhookFiles(url=address, credentials=login, secret=secret)
    webhook = post.webhook("", files=files)
    assert webhook.address == f"the address in {address}"

    async def problem() -> str:
        with pytest.raises(Undelivered) as found:
            await webhook.deliver(trial())
        return str(found.value)

    assert "No such file" in await problem()
    address.write_bytes(b"\xff")
    assert "it is not UTF-8" in await problem()
    for wrong in ("ftp://here", "nothing", "http://u:p@h/", "http://["):
        address.write_text(wrong)
        assert await problem() == (
            f"The first line of {address} is no address. `url_file` in [notify] of agent.toml needs a line like"
            " https://hooks.example.com/..."
        )
    address.write_text(f"{receiver.url}/T0/secret\n")
    assert f"The credentials {login} cannot be read" in await problem()
    login.write_text("machine 127.0.0.1 login ops password pass\n")
    login.chmod(0o600)
    assert f"The file {secret} cannot be used: No such file" in await problem()
    secret.write_text("whsec_no base64")
    assert await problem() == f"The secret in {secret} cannot be used: after whsec_, it is not in base64"
    secret.write_text("plain")
    await webhook.deliver(trial())
    [one] = receiver.received
    assert one.path == "/T0/secret"
    assert one.headers["Authorization"] == "Basic " + base64.b64encode(b"ops:pass").decode()
    broken = post.webhook("https://127.0.0.1:1", files=WebhookFiles(authorities=secret))
    with pytest.raises(Undelivered, match=f"The file {secret} cannot be used"):
        await broken.deliver(trial())


async def test_a_proxy_of_the_environment_is_used(post: Post, receiver: Receiver):
    webhook = post.webhook("http://far.example/hook", environment={"http_proxy": receiver.url})
    await webhook.deliver(trial())
    assert receiver.received[0].headers["Host"] == "far.example"


async def test_a_bug_of_ours_is_a_failure_as_any_other(post: Post):
    class Broken:
        address = "nobody"

        async def deliver(self, notice: Notice) -> None:
            raise KeyError("bug")

    await post.end()
    async with post.delivering(Broken()):
        assert "The agent met a bug of its own: KeyError" in (await post.state(failures=1))["problem"]


async def test_a_journal_that_cannot_be_written_is_tried_again_later(tmp_path: Path, receiver: Receiver):
    class FullDisk(Database):
        full = False

        async def write(self, change: Callable[[sqlite3.Connection], Any]) -> Any:
            if self.full:
                raise Failed(Code.DISK_FULL, "The disk is full")
            return await super().write(change)

    post = Post(tmp_path, database=FullDisk)
    await post.journal.open()
    await post.end()
    async with post.delivering(post.webhook(receiver.url)):
        await receiver.count(1)
        await post.state(waiting=0)
        receiver.open.clear()
        await post.end()
        await receiver.count(2)
        FullDisk.full = True
        receiver.open.set()
        await until(lambda: post.clock.pauses)
        FullDisk.full = False
        post.clock.end()
        await receiver.count(3)
        await post.state(waiting=0)
    ids = [json.loads(one.body)["id"] for one in receiver.received]
    assert ids[1] == ids[2], "it may come twice, and never less than once"
    await post.journal.close()
