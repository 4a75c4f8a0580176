"""A web server over a repository that does what a test tells it: lies, stalls, cuts off, redirects."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import SSLContext

from aiohttp import web

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class RepositoryServer:
    """Serves a folder. `behaviour` may answer in its place, and returns None to leave it to the folder.

    `asked` are the requests: names and headers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.behaviour: Behaviour | None = None
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.address = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.path.removeprefix("/")
        self.asked.append((name, dict(request.headers)))
        if self.behaviour is not None and (response := await self.behaviour(request)) is not None:
            return response
        path = self.folder / name
        if not await asyncio.to_thread(path.is_file):
            return web.Response(status=404)
        return web.FileResponse(path)


@asynccontextmanager
async def serving(folder: Path, *, tls: SSLContext | None = None) -> AsyncIterator[RepositoryServer]:
    """A server on loopback during the block."""
    server = RepositoryServer(folder)
    app = web.Application()
    app.router.add_route("*", "/{name:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    server.address = f"http{'s' if tls else ''}://{'localhost' if tls else '127.0.0.1'}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()


def endless(kind: bytes = b"x" * 4096) -> Behaviour:
    """A body without an end, in place of every bundle and document."""

    async def behave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(kind)
        except ConnectionError:
            return response

    return behave
