"""Stalled uploads: they hold up nothing but themselves."""

import asyncio
import contextlib
import json

from tests.host import Host, wsgi

HEAD = "POST /apps/flask-demo/deployments HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 1000000\r\n\r\n"


async def begin(host: Host, stack: contextlib.AsyncExitStack) -> asyncio.StreamReader:
    """An upload whose first byte never comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", host.door)
    stack.callback(writer.close)
    writer.write(HEAD.format(port=host.door).encode())
    await writer.drain()
    return reader


async def test_stalled_uploads_hold_up_nothing_else(host: Host):
    await host.deploy(wsgi("v1"), "v1")
    await host.deploy(wsgi("v2"), "v2")
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(20):
        readers = [await begin(host, stack) for _ in range(12)]
        answers = [asyncio.create_task(reader.readuntil(b"\r\n\r\n")) for reader in readers]
        stack.callback(lambda: [one.cancel() for one in answers])
        _, status = await host.request("GET", "/status")
        assert status["live"]["version"] == "v2"
        _, answer = await host.rollback()
        assert answer["version"] == "v1"
        # One caller may have eight uploads under way. The door refuses more, and has room for other callers.
        done = [reader for reader, one in zip(readers, answers, strict=True) if one.done()]
        assert len(done) == 4
        problem = json.loads(await done[0].read())
        assert (problem["code"], problem["status"]) == ("busy", 409)
