"""The app's log, and the signed index of a release, through the HTTP door."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from pusher.transport.client import Client
from pusher.transport.hosts import Host, Unix
from pusher.wire import Code, Failed, LogLine, LogUnit, Problem, Refused
from tests.deploy.simulated_agent import until
from tests.deploy.visitor import Visitor, visiting

LINES = [LogLine(1_795_000_000_000 + n, LogUnit.SERVICE, f"line {n}", pid=n) for n in range(3)]


@pytest.fixture
def stop() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def at(stop: asyncio.Event) -> AsyncIterator[Visitor]:
    async with visiting("shop", stop=stop, unread_s=0.05) as visitor:
        visitor.shop.lines = list(LINES)
        yield visitor


@pytest.fixture
async def client(at: Visitor) -> AsyncIterator[Client]:
    client = Client(Host("web1", Unix(str(at.door.path))))
    yield client
    client.close()


async def test_the_log_comes_one_entry_a_line(at: Visitor):
    answer = await at.curl("/logs")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [line for line in answer.body.splitlines() if line.startswith(b"{")]
    assert [LogLine.from_line(line) for line in lines] == LINES
    await at.curl("/apps/shop/logs?lines=1&unit=hook&follow=0")
    assert at.calls == [("log", 100, False, ""), ("log", 1, False, "hook")]
    assert at.shop.readers == 0


@pytest.mark.parametrize(
    "query", ["lines=x", "lines=-1", "lines=10001", "unit=shop.service", "follow=yes", "since=1"]
)
async def test_a_bad_parameter_is_refused_before_anything_is_read(at: Visitor, query: str):
    answer = await at.curl(f"/logs?{query}")
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert answer.json["hint"]
    assert at.calls == []


async def test_the_last_line_of_a_broken_log_says_why(at: Visitor, client: Client):
    at.shop.failure = Failed(Code.SERVICE_FAILED, "The log of shop cannot be read", why="No access")
    lines = [line for line in (await at.curl("/logs")).body.splitlines() if line.startswith(b"{")]
    assert json.loads(lines[-1])["problem"]["detail"] == "No access"
    with pytest.raises(Problem) as caught:
        await asyncio.to_thread(lambda: list(client.logs(lines=10)))
    assert caught.value.to_document() == at.shop.failure.to_document()


async def follow(at: Visitor) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await at.connect()
    writer.write(f"GET /logs?follow=1&lines=1 HTTP/1.0\r\nHost: {at.door.address}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    assert LogLine.from_line(await next_line(reader)) == LINES[-1]
    return reader, writer


async def next_line(reader: asyncio.StreamReader) -> bytes:
    """The next line that is not empty."""
    while (line := await reader.readline()) == b"\n":
        pass
    return line


async def test_a_follower_gets_each_line_and_the_log_is_closed_when_the_follower_goes(at: Visitor):
    reader, writer = await follow(at)
    at.shop.news.put_nowait(LINES[0])
    assert LogLine.from_line(await next_line(reader)) == LINES[0]
    assert at.shop.readers == 1
    writer.close()
    await until(lambda: at.shop.readers == 0)


async def test_a_reader_that_reads_nothing_is_cut_off(at: Visitor):
    _, writer = await follow(at)
    for _ in range(300):
        at.shop.news.put_nowait(LogLine(0, LogUnit.SERVICE, "x" * 60_000))
    await until(lambda: at.shop.readers == 0)
    writer.close()


async def test_an_agent_that_stops_ends_a_log_that_is_followed(at: Visitor, stop: asyncio.Event):
    reader, writer = await follow(at)
    stop.set()
    async with asyncio.timeout(2):  # much less than `drain_s`
        await at.door.stop()
        assert not (await reader.read()).strip()
    assert at.shop.readers == 0
    writer.close()


async def test_a_follower_stays_while_nothing_is_written():
    async with visiting("shop", silence_s=0.02) as at:
        at.shop.lines = list(LINES)
        client = Client(Host("web1", Unix(str(at.door.path))))
        found = client.logs("shop", lines=1, follow=True)
        lines = [await asyncio.to_thread(next, found) for _ in range(3)]
        assert [line for line in lines if line is not None] == [LINES[-1]]
        found.close()
        client.close()


async def test_the_index_of_a_release_comes_as_it_was_signed(at: Visitor, client: Client):
    answer = await at.curl("/apps/shop/index?release=20261123020055Z")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert b'{"path":"a"}\n{"path":"b"}\n' in answer.body
    await at.curl("/apps/shop/index")
    assert at.calls == [("index", "20261123020055Z"), ("index", "")]
    assert (await at.curl("/apps/shop/index?release=")).status == 400
    at.shop.refusal = Refused(Code.UNKNOWN_RELEASE, "shop has no release x")
    with pytest.raises(Refused, match="no release x"):
        await asyncio.to_thread(lambda: list(client.index("shop", "x")))
    at.shop.refusal = None
    with pytest.raises(Problem, match="not from an agent"):
        await asyncio.to_thread(lambda: list(client.index("shop", "x")))
