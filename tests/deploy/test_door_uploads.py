"""Bundles through the HTTP door, from any client, with any end."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.core.config.host import BundleLimits
from pusher.wire import Code, Failed, Refused
from tests.deploy.simulated_agent import SimulatedDeployment, bundle, until
from tests.deploy.visitor import Visitor, parse, visiting

FILES = {"app.py": b"print('hello')\n", "blob": os.urandom(3_000_000)}
PATH = "/apps/shop/deployments"


@pytest.fixture
async def at() -> AsyncIterator[Visitor]:
    async with visiting("shop") as visitor:
        yield visitor


@pytest.fixture
async def impatient() -> AsyncIterator[Visitor]:
    async with visiting("shop", limits=BundleLimits(stall_s=0.3, total_s=20)) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "shop-v1.tar.zst"
    path.write_bytes(bundle(FILES))
    return path


async def begin(at: Visitor, *headers: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A deployment's request, its head sent."""
    reader, writer = await at.connect()
    writer.write(at.head(f"POST {PATH}", *headers))
    return reader, writer


async def test_a_bundle_posted_by_plain_curl_is_deployed(at, archive):
    answer = await at.curl(PATH, "--data-binary", f"@{archive}")
    assert (answer.status, answer.json) == (200, {"app": "shop", "deployment": "shop-1", "outcome": "done"})
    assert at.shop.received == [FILES]


async def test_a_bundle_of_unknown_length_is_deployed_too(at, archive):
    answer = await at.curl(PATH, "-X", "POST", "-T", "-", body=archive.read_bytes())
    assert (answer.status, answer.json["outcome"]) == (200, "done")
    assert at.shop.received == [FILES]


async def test_over_the_unix_socket_it_is_the_same(at, archive):
    assert (await at.curl(PATH, "--data-binary", f"@{archive}", unix=True)).status == 200
    assert at.shop.received == [FILES]


async def test_a_client_that_expects_100_continue_gets_it_before_it_sends(at):
    body = bundle({"a": b"1"})
    reader, writer = await begin(at, f"Content-Length: {len(body)}", "Expect: 100-continue", "Connection: close")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert parse(await reader.read()).status == 200
    writer.close()


async def test_a_client_that_prefers_not_to_wait_is_answered_when_the_whole_bundle_was_read(at):
    at.shop.goes_on.clear()
    body = bundle(FILES)
    reader, writer = await begin(at, f"Content-Length: {len(body)}", "Prefer: respond-async", "Connection: close")
    writer.write(body[:-10])
    await until(lambda: at.shop.deployments)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    writer.write(body[-10:])
    answer = parse(await reader.read())
    assert (answer.status, answer.json) == (202, {"app": "shop", "deployment": "shop-1"})
    assert answer.headers["location"] == "/deployments/shop-1"
    assert at.shop.deployments[0].outcome is None
    writer.close()
    at.shop.goes_on.set()


@pytest.mark.parametrize("headers", [("Content-Length: 9000000",), ("Transfer-Encoding: chunked",)])
async def test_a_refusal_is_sent_while_the_bundle_is_still_on_its_way(at, headers):
    at.shop.refusal = Refused(Code.SIGNER_UNKNOWN, "Nobody here knows the key")
    reader, writer = await begin(at, *headers)
    part = bundle(FILES)[:200_000]
    chunked = headers[0].startswith("Transfer")
    writer.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert b" 403 " in head
    assert b"Connection: close" in head
    writer.close()


async def test_curl_shows_the_refusal_of_a_large_bundle(at, tmp_path):
    at.shop.refusal = Refused(Code.SIGNER_UNKNOWN, "Nobody here knows the key")
    (tmp_path / "large").write_bytes(bundle({"blob": os.urandom(40_000_000)}))
    answer = await at.curl(PATH, "--data-binary", f"@{tmp_path / 'large'}")
    assert (answer.status, answer.json["title"]) == (403, "Nobody here knows the key")


@pytest.mark.parametrize("prefer", ["Prefer: respond-async", "Prefer: wait"])
async def test_a_deployment_that_fails_while_its_bundle_arrives_is_answered_at_once(at, prefer):
    at.shop.failure = Failed(Code.CONTENT_MISMATCH, "blob is not what was signed")
    reader, writer = await begin(at, "Content-Length: 9000000", prefer)
    writer.write(bundle(FILES)[:200_000])
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert b" 422 " in head
    assert b'"instance":"/deployments/shop-1"' in await reader.readline()
    writer.close()


async def test_a_bundle_that_was_deployed_before_is_read_to_its_end_and_answered_with_that_deployment(at, archive):
    at.shop.known = SimulatedDeployment("shop-0", "shop")
    at.shop.known.finish()
    answer = await at.curl(PATH, "--data-binary", f"@{archive}")
    assert (answer.status, answer.json["deployment"]) == (200, "shop-0")
    assert at.shop.received == []


async def test_the_same_bundle_sent_by_two_is_one_deployment(at, archive):
    at.shop.goes_on.clear()
    first = asyncio.create_task(at.curl(PATH, "--data-binary", f"@{archive}"))
    await until(lambda: at.shop.received)
    at.shop.known = at.shop.deployments[0]
    second = asyncio.create_task(at.curl(PATH, "--data-binary", f"@{archive}"))
    await until(lambda: at.shop.known.watchers == 2)
    at.shop.goes_on.set()
    assert (await first).json == (await second).json


@pytest.mark.parametrize("headers", [("Content-Length: 9000000",), ("Transfer-Encoding: chunked",)])
async def test_a_sender_that_vanishes_breaks_its_upload_and_nothing_else(at, headers):
    _, writer = await begin(at, *headers)
    part = bundle(FILES)[:2_000_000]
    writer.write(b"%x\r\n%s\r\n" % (len(part), part) if "chunked" in headers[0] else part)
    await until(lambda: at.shop.deployments)
    writer.close()
    await until(lambda: at.shop.broken)
    assert at.shop.broken[0].code is Code.UPLOAD_BROKEN
    assert (await at.curl("/healthz")).status == 200


async def test_a_sender_that_resets_the_connection_breaks_its_upload_and_nothing_else(at):
    _, writer = await begin(at, "Content-Length: 9000000")
    writer.write(bundle(FILES)[:2_000_000])
    await until(lambda: at.shop.deployments)
    writer.transport.abort()
    await until(lambda: at.shop.broken)
    assert at.shop.broken[0].code is Code.UPLOAD_BROKEN


async def test_an_upload_that_is_not_chunked_as_it_says_is_broken(impatient):
    reader, writer = await begin(impatient, "Transfer-Encoding: chunked")
    part = bundle(FILES)[:200_000]
    writer.write(b"%x\r\n%s\r\n" % (len(part), part))
    await until(lambda: impatient.shop.deployments)
    writer.write(b"not a length\r\n")
    assert b" 400 " in await reader.readline()
    assert impatient.shop.broken[0].code is Code.UPLOAD_BROKEN
    writer.close()


async def test_an_upload_that_stalls_is_cut_off(impatient):
    reader, writer = await begin(impatient, "Content-Length: 9000000")
    writer.write(bundle(FILES)[:200_000])
    answer = parse(await asyncio.wait_for(reader.readuntil(b"}\n"), 10))
    assert (answer.status, answer.json["code"]) == (400, "upload_broken")
    assert answer.headers["connection"] == "close"
    writer.close()


async def test_an_upload_that_stalls_before_its_first_byte_is_cut_off(impatient):
    reader, writer = await begin(impatient, "Content-Length: 9000000")
    answer = parse(await asyncio.wait_for(reader.readuntil(b"}\n"), 10))
    assert (answer.status, answer.json["code"]) == (400, "upload_broken")
    writer.close()


async def test_the_rest_of_an_upload_is_not_awaited_for_ever_either(impatient):
    impatient.shop.known = SimulatedDeployment("shop-0", "shop")
    impatient.shop.known.finish()
    reader, writer = await begin(impatient, "Content-Length: 9000000")
    writer.write(bundle(FILES)[:200_000])
    answer = parse(await asyncio.wait_for(reader.readuntil(b"}\n"), 10))
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    writer.close()


async def test_a_body_that_is_not_a_bundle_is_refused(at):
    answer = await at.curl(PATH, "--data-binary", "hello")
    assert (answer.status, answer.json["code"]) == (400, "bundle_malformed")


async def test_an_empty_body_is_refused(at):
    answer = await at.curl(PATH, "-X", "POST")
    assert (answer.status, answer.json["outcome"]) == (400, "refused")


async def test_a_body_with_a_content_encoding_is_refused(at, archive):
    answer = await at.curl(PATH, "--data-binary", f"@{archive}", "-H", "Content-Encoding: gzip")
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


async def test_an_upload_for_an_unknown_app_is_refused_before_it_is_read(at):
    reader, writer = await at.connect()
    writer.write(at.head("POST /apps/blog/deployments", "Content-Length: 9000000", "Expect: 100-continue"))
    assert b" 404 " in await asyncio.wait_for(reader.readline(), 10)
    writer.close()


async def test_a_manifest_with_its_index_is_answered_with_the_missing_digests_and_the_connection_stays_usable(at):
    reader, writer = await at.connect()
    body = bundle()
    for _ in range(2):
        writer.write(at.head("POST /apps/shop/missing", f"Content-Length: {len(body)}") + body)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head
        assert await reader.readline() == b'{"missing":["' + b"ab" * 32 + b'"]}\n'
    writer.close()


async def test_a_manifest_that_is_refused_is_not_answered_with_digests(at):
    at.shop.refusal = Refused(Code.EXPIRED, "The bundle has expired")
    answer = await at.curl("/apps/shop/missing", "--data-binary", "@-", body=bundle())
    assert (answer.status, answer.json["code"]) == (422, "expired")


async def test_a_door_that_closes_leaves_no_thread_waiting_for_an_upload():
    async with visiting("shop", drain_s=0.1, limits=BundleLimits(stall_s=60, total_s=60)) as at:
        _, writer = await begin(at, "Content-Length: 9000000")
        writer.write(bundle(FILES)[:200_000])
        await until(lambda: at.shop.deployments)
        await at.door.stop()
        await until(lambda: at.shop.broken)
        assert at.shop.broken[0].code in (Code.INTERRUPTED, Code.UPLOAD_BROKEN)
        writer.close()


async def test_an_agent_that_stops_ends_the_uploads_under_way():
    stop = asyncio.Event()
    async with visiting("shop", stop=stop, limits=BundleLimits(stall_s=60, total_s=60)) as at:
        _, writer = await begin(at, "Content-Length: 9000000")
        writer.write(bundle(FILES)[:200_000])
        await until(lambda: at.shop.deployments)
        stop.set()
        await until(lambda: at.shop.broken)
        assert at.shop.broken[0].code is Code.INTERRUPTED
        writer.close()
