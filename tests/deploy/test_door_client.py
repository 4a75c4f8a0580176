"""The HTTP door as `pusher` itself uses it."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from pusher.transport.client import Client
from pusher.transport.hosts import Host, Loopback, Unix
from pusher.wire import Code, Event, Failed, Problem, Refused
from tests.deploy.simulated_agent import bundle, until
from tests.deploy.visitor import Visitor, visiting


@pytest.fixture
async def at() -> AsyncIterator[Visitor]:
    async with visiting("shop", silence_s=0.02) as visitor:
        yield visitor
        visitor.shop.goes_on.set()


@pytest.fixture(params=["tcp", "unix"])
async def client(at, request) -> AsyncIterator[Client]:
    host, _, port = at.door.address.partition(":")
    address = Unix(str(at.door.path)) if request.param == "unix" else Loopback(host, int(port))
    client = Client(Host("web1", address))
    yield client
    client.close()


def pieces(body: bytes) -> Iterator[bytes]:
    yield from (body[at : at + 65_536] for at in range(0, len(body), 65_536))


async def test_a_bundle_is_sent_and_followed_to_its_end(at, client):
    blob = os.urandom(1_000_000)
    assert await asyncio.to_thread(client.missing, "shop", pieces(bundle()), files=1) == {"ab" * 32}
    deployment = await asyncio.to_thread(client.deploy, "shop", pieces(bundle({"blob": blob})))
    events = await asyncio.to_thread(lambda: list(client.events(deployment)))
    assert [event.event for event in events if event] == ["started", "step_started", "step_done", "finished"]
    assert (await asyncio.to_thread(client.deployment, deployment))["outcome"] == "done"
    assert at.shop.received == [{"blob": blob}]


@pytest.mark.parametrize(
    "problem", [Refused(Code.BUSY, "alice is deploying v3 on shop"), Failed(Code.DISK_FULL, "Full")]
)
async def test_a_problem_reaches_the_sender_while_the_upload_goes_on(at, client, problem):
    at.shop.refusal = problem
    body = bundle({"blob": os.urandom(30_000_000)})
    with pytest.raises(Problem) as caught:
        await asyncio.to_thread(client.deploy, "shop", pieces(body))
    assert caught.value.to_document() == problem.to_document()
    assert await asyncio.to_thread(client.status) == {"app": "shop", "live": None}


async def test_a_client_that_lost_the_connection_goes_on_where_it_was(at, client):
    at.shop.goes_on.clear()
    deployment = await asyncio.to_thread(client.rollback)
    await until(lambda: len(at.shop.deployments[0].happened) == 2)

    def until_silent() -> list[int]:
        seen = []
        for event in client.events(deployment):
            if event is None:
                return seen
            seen.append(event.seq)
        return seen

    assert await asyncio.to_thread(until_silent) == [1, 2]
    client.close()
    at.shop.goes_on.set()
    rest = await asyncio.to_thread(lambda: list(client.events(deployment, after=2)))
    assert [event.seq for event in rest if isinstance(event, Event)] == [3, 4]
