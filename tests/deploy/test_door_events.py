"""Following a deployment through the HTTP door: from any event on, at any speed, without holding it up."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from pusher.wire import Code, Event, Failed, Happened
from tests.deploy.simulated_agent import SimulatedDeployment, until
from tests.deploy.visitor import Visitor, parse, visiting


@pytest.fixture
async def at() -> AsyncIterator[Visitor]:
    async with visiting("shop") as visitor:
        yield visitor
        visitor.shop.goes_on.set()


@pytest.fixture
async def short() -> AsyncIterator[Visitor]:
    """A door that is quick to fill a silence, and to cut off a reader."""
    async with visiting("shop", silence_s=0.05, unread_s=0.2) as visitor:
        yield visitor
        visitor.shop.goes_on.set()


async def begun(at: Visitor) -> SimulatedDeployment:
    """A rollback that lasts until `goes_on` is set."""
    at.shop.goes_on.clear()
    await at.curl("/rollback", "-X", "POST", "-H", "Prefer: respond-async")
    await until(lambda: len(at.shop.deployments[0].happened) == 2)
    return at.shop.deployments[0]


async def follow(at: Visitor, after: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream of events, after its head. HTTP/1.0, so that there is nothing between the lines."""
    reader, writer = await at.connect()
    line = f"GET /deployments/shop-1/events?after={after} HTTP/1.0\r\nHost: {at.door.address}\r\n\r\n"
    writer.write(line.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head
    assert b"Content-Type: application/x-ndjson" in head
    return reader, writer


async def test_events_come_one_a_line_until_the_deployment_has_finished(at):
    await at.curl("/rollback", "-X", "POST")
    answer = await at.curl("/deployments/shop-1/events")
    assert answer.headers["content-type"] == "application/x-ndjson"
    events = [Event.from_line(line) for line in answer.body.splitlines(keepends=True) if line.startswith(b"{")]
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert events[-1].event == Happened.FINISHED


@pytest.mark.parametrize("after", [0, 1, 3, 4, 99])
async def test_a_reader_goes_on_after_any_event(at, after):
    await at.curl("/rollback", "-X", "POST")
    reader, writer = await follow(at, after)
    lines = (await reader.read()).splitlines(keepends=True)
    assert [Event.from_line(line).seq for line in lines] == list(range(after + 1, 5))
    writer.close()


async def test_events_come_as_they_happen(at):
    deployment = await begun(at)
    reader, writer = await follow(at)
    assert [Event.from_line(await reader.readline()).event for _ in range(2)] == ["started", "step_started"]
    deployment.publish(Happened.OUTPUT, source="unpack", text="hello")
    assert Event.from_line(await reader.readline()).data == {"source": "unpack", "text": "hello"}
    at.shop.goes_on.set()
    assert [Event.from_line(line).event for line in (await reader.read()).splitlines()] == [
        "step_done",
        "finished",
    ]
    writer.close()


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "", "%D9%A1", "9999999999"])
async def test_a_value_that_is_not_the_number_of_an_event_is_refused(at, after):
    await at.curl("/rollback", "-X", "POST")
    answer = await at.curl(f"/deployments/shop-1/events?after={after}")
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


async def test_a_deployment_that_does_not_exist_has_no_events(at):
    assert (await at.curl("/deployments/shop-9/events")).json["code"] == "unknown_deployment"


async def test_a_reader_that_vanishes_is_forgotten_and_the_deployment_goes_on(at):
    deployment = await begun(at)
    _, writer = await follow(at)
    await until(lambda: deployment.watchers == 1)
    writer.close()
    await until(lambda: deployment.watchers == 0)
    assert deployment.outcome is None
    at.shop.goes_on.set()
    await until(lambda: deployment.outcome == "done")


async def test_a_caller_that_hangs_up_is_forgotten_and_its_rollback_goes_on(at):
    at.shop.goes_on.clear()
    with capture_logs() as logs:
        _, writer = await at.connect()
        writer.write(at.head("POST /rollback"))
        await until(lambda: at.shop.deployments and at.shop.deployments[0].watchers == 1)
        writer.close()
        await until(lambda: at.shop.deployments[0].watchers == 0)
    assert logs == []
    at.shop.goes_on.set()
    await until(lambda: at.shop.deployments[0].outcome == "done")


async def test_a_caller_that_hangs_up_before_the_rollback_begins_is_forgotten_too(at):
    at.shop.goes_on.clear()
    submit = at.shop.submit

    async def slowly(request):
        writer.close()
        await until(lambda: not at.door.connections)
        return await submit(request)

    at.shop.submit = slowly
    _, writer = await at.connect()
    writer.write(at.head("POST /rollback"))
    await until(lambda: at.shop.deployments)
    await at.door.stop()  # waits for the request to end
    assert at.shop.deployments[0].watchers == 0


async def test_a_reader_that_reads_nothing_holds_nothing_up_and_is_cut_off(short):
    at = short
    deployment = await begun(at)
    _, writer = await follow(at)
    writer.transport.pause_reading()
    for _ in range(200):
        deployment.publish(Happened.OUTPUT, source="unpack", text="x" * 100_000)
    at.shop.goes_on.set()
    await until(lambda: deployment.outcome == "done")
    await until(lambda: deployment.watchers == 0)
    await until(lambda: not at.door.connections)
    writer.close()
    assert (await at.curl("/healthz")).status == 200


async def test_a_long_silence_is_filled_with_empty_lines(short):
    at = short
    await begun(at)
    reader, writer = await follow(at, after=2)
    assert [await reader.readline() for _ in range(3)] == [b"\n"] * 3
    at.shop.goes_on.set()
    lines = (await reader.read()).split(b"\n")
    assert [Event.from_line(line).seq for line in lines if line] == [3, 4]
    writer.close()


async def test_an_error_in_the_events_ends_the_stream_early_and_is_logged(at):
    deployment = await begun(at)

    async def events(*, after=0):
        yield deployment.happened[0]
        raise Failed(Code.DISK_ERROR, "The journal cannot be read")

    deployment.events = events
    with capture_logs() as logs:
        reader, writer = await follow(at)
        assert Event.from_line(await reader.readline()).seq == 1
        assert await reader.read() == b""
    assert [entry["event"] for entry in logs] == ["request_failed"]
    writer.close()


async def test_a_closing_door_sends_the_rest_of_the_events_first(at):
    await begun(at)
    reader, writer = await follow(at)
    stopping = asyncio.create_task(at.door.stop())
    await until(lambda: not at.door.path.exists())
    at.shop.goes_on.set()
    assert Event.from_line((await reader.read()).splitlines()[-1]).event == "finished"
    await stopping
    writer.close()


async def test_a_connection_can_be_used_again_after_a_stream_of_events(at):
    await at.curl("/rollback", "-X", "POST")
    reader, writer = await at.connect()
    writer.write(at.head("GET /deployments/shop-1/events"))
    stream = await reader.readuntil(b"\r\n0\r\n\r\n")
    assert stream.count(b'"seq":') == 4
    writer.write(at.head("GET /healthz", "Connection: close"))
    assert parse(await reader.read()).json == {"status": "ok"}
    writer.close()
