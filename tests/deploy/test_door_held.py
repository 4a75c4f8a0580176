"""A door whose listening sockets somebody else holds, as process 1 does: it comes and goes, and they stay."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.deploy.simulated_agent import opened

Held = list[socket.socket]


@pytest.fixture
def held() -> Iterator[Held]:
    """Two addresses and a unix socket, as pusher-agent.socket has them."""
    with TemporaryDirectory() as folder:
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(f"{folder}/api.sock")
        unix.listen()
        made = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0)), unix]
        yield made
        for sock in made:
            sock.close()


def handed_over(held: Held) -> Held:
    return [sock.dup() for sock in held]


def options(held: Held) -> dict[str, object]:
    host, port = held[0].getsockname()
    path = Path(held[2].getsockname())
    return {"held": handed_over(held), "address": f"{host}:{port}", "path": path}


async def ask(sock: socket.socket, request: str = "GET /healthz") -> tuple[bytes, asyncio.StreamReader]:
    """Connect, ask, and wait for the first bytes of the answer."""
    reader, writer = await reach(sock)
    writer.write(head(sock, request))
    async with asyncio.timeout(10):
        first = await reader.readline()
    writer.close()
    return first, reader


async def reach(sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    where = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return await asyncio.open_unix_connection(where)
    return await asyncio.open_connection(*where)


def head(sock: socket.socket, request: str) -> bytes:
    where = sock.getsockname()
    host = "localhost" if sock.family == socket.AF_UNIX else f"agent:{where[1]}"
    return f"{request} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


async def test_each_of_its_sockets_is_served_under_its_own_port(held: Held) -> None:
    async with opened("shop", **options(held)):
        for sock in held:
            assert (await ask(sock, "GET /status"))[0] == b"HTTP/1.1 200 OK\r\n"
        reader, writer = await reach(held[0])
        writer.write(head(held[1], "GET /status"))
        assert await reader.readline() == b"HTTP/1.1 403 Forbidden\r\n"
        writer.close()


async def test_what_connects_while_no_agent_is_there_is_answered_by_the_next_one(held: Held) -> None:
    async with opened("shop", **options(held)):
        pass
    waiting = [asyncio.create_task(ask(sock)) for sock in held]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    async with opened("shop", **options(held)):
        for one in waiting:
            assert (await one)[0] == b"HTTP/1.1 200 OK\r\n"


async def test_who_was_let_in_when_the_agent_stops_is_answered_still(held: Held) -> None:
    async with opened("shop", **options(held), withheld_s=0) as (door, _):
        assert (await ask(held[0]))[0] == b"HTTP/1.1 200 OK\r\n"
        fresh = [await reach(sock) for sock in held]
        kept_reader, kept = await reach(held[0])
        kept.write(head(held[0], "GET /healthz"))
        assert await kept_reader.readline() == b"HTTP/1.1 200 OK\r\n"
        stopping = asyncio.create_task(door.stop())
        await asyncio.sleep(0)
        for sock, (reader, writer) in zip(held, fresh, strict=True):
            writer.write(head(sock, "GET /status"))
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.close()
        kept.close()
        await stopping
