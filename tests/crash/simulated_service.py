"""A service for tests of what is left on a disk: it starts nothing, and answers with the release's files.

So a release that lost what it is made of does not answer, as a real one would not.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from agent.core.config.app import AppConfig
from agent.core.layout import HostLayout
from agent.host.net.sockets import listen_unix
from agent.host.ports import Clock, Placed, ProcessState, Running, TimerState
from pusher.wire import Code, Failed, LogLine, Problem


class SimulatedMain:
    """The `Running` port."""

    def __init__(self, placed: Placed, folder: Path) -> None:
        self.placed = placed
        self.address = f"unix:{folder}/{secrets.token_hex(6)}.sock"
        self._end = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        sock = await asyncio.to_thread(listen_unix, Path(self.address.removeprefix("unix:")), mode=0o600)
        self._server = await asyncio.start_unix_server(self._answer, sock=sock)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        said = await asyncio.to_thread((self.placed.path / "says").read_text)
        body = json.dumps({"version": said}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    async def wait(self) -> str:
        await self._end.wait()
        return "exit code 0"

    async def tail(self) -> str:
        return ""

    async def end(self) -> None:
        self.dismiss()

    def dismiss(self) -> None:
        if self._server is not None:
            self._server.close()
        self._end.set()

    async def accepts(self) -> bool:
        return True


class SimulatedProcesses:
    """The `SideProcesses` port: `ran` has the versions that they were told to run, "" when they were stopped."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.refusal: Problem | None = None
        self.started: dict[str, Running] = {}

    @property
    def any(self) -> bool:
        return bool(self.started)

    def adopt(self, config: AppConfig) -> None: ...

    async def ready(self) -> None:
        if self.refusal:
            raise self.refusal

    async def run(self, placed: Placed) -> Mapping[str, Running]:
        self.ran.append(placed.version)
        if self.refusal:
            raise self.refusal
        return self.started

    async def stop(self) -> None:
        self.ran.append("")

    async def states(self) -> tuple[list[ProcessState], list[TimerState]]:
        return [], []


class SimulatedService:
    """The `Service` port, made as `Embedded` is."""

    def __init__(self, app: str, config: AppConfig, *, host: HostLayout, clock: Clock, **_: Any) -> None:
        self._folder = host.run / app
        self._serving: SimulatedMain | None = None

    async def ready(self) -> None:
        pass

    async def reserve(self) -> None:
        pass

    async def unreserve(self) -> None:
        if self._serving is None:
            await self.stop()

    def adopt(self, config: AppConfig) -> None: ...

    async def wanted(self) -> bool:
        return True

    async def outage(self) -> str:
        return ""

    async def ending(self) -> bool:
        return False

    async def try_out(self, placed: Placed) -> SimulatedMain:
        if not await asyncio.to_thread((placed.path / "venv/.complete").is_file):
            raise Failed(Code.START_NOT_FOUND, f"Release {placed.release} has no venv")
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        main = SimulatedMain(placed, self._folder)
        await main.open()
        return main

    async def restart(self, placed: Placed) -> SimulatedMain:
        main = await self.try_out(placed)
        await self.stop()
        self._serving = main
        return main

    async def mend(self) -> None:
        pass

    async def stop(self) -> None:
        if self._serving is not None:
            self._serving.dismiss()
        self._serving = None

    restarts = 0

    def running(self) -> SimulatedMain | None:
        return self._serving

    def log(self, **_: Any) -> AsyncIterator[LogLine]:
        raise NotImplementedError
