"""An agent that is told to stop during a deployment: one that is not live yet ends at once, and says so."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from tests.host import APP, Host, hook, running, wsgi

AT_ONCE_S = 10.0  # on a busy machine; it would wait for 20 more
HANGING = "import time\ntime.sleep(60)\n"


def version_that_waits(where: str) -> dict[str, str]:
    """A version whose deployment does not get past `where`."""
    files = wsgi("v2")
    match where:
        case "preflight":
            return files | {"app.py": HANGING}
        case "hook":
            return files | {"hooks/before-symlink": hook("sleep 60")}
        case _:
            # Nothing answers there, and uv keeps trying.
            return files | {"requirements.txt": "gunicorn==22.0.0\nnothing-of-that-name==1\n"}


@pytest.mark.parametrize("where", ["preflight", "hook", "dependencies"])
async def test_what_a_deployment_waits_for_is_ended_and_nothing_live_changes(where: str, host_off: Host):
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
    async with silence() as index:
        host_off.add_app(APP, dependencies__index_url=index if where == "dependencies" else "")
        async with running(host_off) as host:
            before = host.state()
            sending = asyncio.create_task(host.send(version_that_waits(where), "v2"))
            await until(lambda: doing(host, where))
            began = time.monotonic()
            stopping = asyncio.create_task(stop(host))
            status, answer = await sending
            await stopping
            assert time.monotonic() - began < AT_ONCE_S
            assert (status, answer["code"]) == (503, "interrupted"), answer
            assert host.state() == before
        async with running(host_off) as host:
            assert (await host.request("GET", "/status"))[1]["deploying"] is None
            assert await host.serving() == "v1"


async def test_an_upload_under_way_is_ended(host: Host):
    await host.deploy(wsgi("v1"), "v1")
    before = host.state()
    data = await asyncio.to_thread(host.bundle, wsgi("v2", noise=secrets.token_hex(1_000_000)), "v2")
    reader, writer = await asyncio.open_connection("127.0.0.1", host.door)
    lines = (
        f"POST /apps/{APP}/deployments HTTP/1.1",
        f"Host: 127.0.0.1:{host.door}",
        f"Content-Length: {len(data)}",
    )
    writer.write("\r\n".join((*lines, "", "")).encode() + data[: len(data) // 2])
    await writer.drain()
    await until(lambda: doing(host, "unpack"))
    began = time.monotonic()
    await stop(host)
    assert time.monotonic() - began < AT_ONCE_S
    assert b'"interrupted"' in await reader.read()
    assert host.state() == before
    writer.close()


async def stop(host: Host) -> None:
    """Stop as SIGTERM does, while clients are still connected."""
    session, host.session = host.session, None
    await host.stop()
    host.session = session


async def doing(host: Host, where: str) -> bool:
    """Whether the deployment under way has got there."""
    status = (await host.request("GET", "/status"))[1]
    if status["deploying"] is None:
        return False
    with suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            assert host.session is not None
            async with host.session.get(f"/deployments/{status['deploying']['deployment']}/events") as answer:
                async for line in answer.content:
                    if f'"{where}"'.encode() in line or (where == "hook" and b"hook_started" in line):
                        return True
    return False


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await true():
            pass


@asynccontextmanager
async def silence() -> AsyncIterator[str]:
    """The address of an index that accepts connections and sends nothing."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(1000):
                pass
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/simple"
