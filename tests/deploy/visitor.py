"""Callers of an open door: curl as any user, raw sockets, and aiohttp's test client."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp.test_utils import BaseTestServer
from aiohttp.web import BaseRunner
from yarl import URL

from agent.doors.http.server import HttpDoor
from tests.deploy.simulated_agent import SimulatedAgent, SimulatedApp, opened


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.body.endswith(b"\n")
        return json.loads(self.body)


@dataclass
class Visitor:
    """An open door, and its callers."""

    door: HttpDoor
    agent: SimulatedAgent

    async def curl(
        self, path: str, *options: str, uid: int | None = None, unix: bool = False, body: bytes = b""
    ) -> Answer:
        """The response that real curl gets, as the user `uid`."""
        argv: tuple[str, ...] = ("curl", "--silent", "--show-error", "--include", "--max-time", "20", *options)
        if unix:
            argv += ("--unix-socket", str(self.door.path), f"http://localhost{path}")
        else:
            argv += (f"http://{self.door.address}{path}",)
        if uid is not None:
            argv = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", *argv)
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=-1, stdout=-1, stderr=-1, env={"PATH": os.environ["PATH"]}
        )
        out, errors = await process.communicate(body)
        assert process.returncode == 0, errors
        return parse(out)

    @property
    def shop(self) -> SimulatedApp:
        return self.agent.apps["shop"]

    async def connect(self, *, unix: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if unix:
            return await asyncio.open_unix_connection(self.door.path)
        host, _, port = self.door.address.partition(":")
        return await asyncio.open_connection(host, int(port))

    def head(self, line: str, *more: str) -> bytes:
        """The head of a request, with the right Host."""
        return "\r\n".join((f"{line} HTTP/1.1", f"Host: {self.door.address}", *more, "", "")).encode()

    async def raw(self, request: bytes, *, unix: bool = False) -> Answer:
        """The response to exactly these bytes, read to the end."""
        return parse(await self.raw_bytes(request, unix=unix))

    async def raw_bytes(self, request: bytes, *, unix: bool = False) -> bytes:
        reader, writer = await self.connect(unix=unix)
        writer.write(request)
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()

    @property
    def calls(self) -> list[tuple[object, ...]]:
        return [call for app in self.agent.apps.values() for call in app.calls]


class DoorServer(BaseTestServer):
    """An open door, for the `aiohttp_client` of pytest-aiohttp. The test that opened it closes it."""

    def __init__(self, door: HttpDoor) -> None:
        super().__init__()
        self._door = door

    async def start_server(self, loop: asyncio.AbstractEventLoop | None = None, **_: Any) -> None:
        return

    def make_url(self, path: URL | str) -> URL:
        return URL(f"http://{self._door.address}").join(URL(path))

    async def close(self) -> None:
        return

    async def _make_runner(self, **_: Any) -> BaseRunner:
        raise NotImplementedError


def parse(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    while b" 100 " in head.splitlines()[0]:
        head, _, body = body.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    return Answer(int(first.split()[1]), headers, body)


@asynccontextmanager
async def visiting(*apps: str, **options: Any) -> AsyncIterator[Visitor]:
    """An open door over a simulated agent with these apps."""
    async with opened(*apps, **options) as (door, agent):
        yield Visitor(door, agent)
