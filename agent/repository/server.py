"""The server of a repository: objects with ETag and Range, reports by PUT, and the bell by long poll.

Invariant: it serves what is in the folder, and trusts nobody: hosts believe signatures and digests.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from agent.repository.objects import Objects
from pusher.wire import Code, Problem
from pusher.wire.report import REPORT_BYTES

_log = structlog.get_logger()

BELL_S = 120.0
"""How long a question for the bell waits."""
_CHECK_EVERY_S = 0.25
_STATUS = {Code.NOT_ALLOWED: 403, Code.BAD_REQUEST: 400, Code.WRONG_HOST: 422, Code.DISK_FULL: 507}


@dataclass(slots=True)
class _Watch:
    """A document that somebody waits for."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    waiters: int = 0
    task: asyncio.Task[None] | None = None


class RepositoryServer:
    """Serves `objects` at an address. `bell_s` is how long a bell is waited for, `check_s` how often the
    document is checked.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        bell_s: float = BELL_S,
        check_s: float = _CHECK_EVERY_S,
    ) -> None:
        self._objects = objects
        self._host = host
        self._port = port
        self._tls = tls
        self._bell_s = bell_s
        self._check_s = check_s
        self._watches: dict[str, _Watch] = {}
        self._runner: web.AppRunner | None = None

    @property
    def watched(self) -> tuple[str, ...]:
        """The documents that somebody waits for."""
        return tuple(self._watches)

    async def start(self) -> int:
        """Open it; the port. Raises: OSError."""
        app = web.Application(client_max_size=REPORT_BYTES, middlewares=[_refusals])
        app.router.add_get("/{name:bells/.+}", self._bell)
        app.router.add_get("/{name:.*}", self._get)
        app.router.add_put("/{name:.*}", self._put)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls, backlog=4096).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close it. Questions for a bell are answered at once."""
        for watch in self._watches.values():
            watch.changed.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _get(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        path = await asyncio.to_thread(self._objects.find, name)
        if path is None:
            raise web.HTTPNotFound
        kept = name.startswith("bundles/")
        cache = "public, max-age=31536000, immutable" if kept else "no-cache"
        return web.FileResponse(path, headers={"Cache-Control": cache, "Content-Type": "application/octet-stream"})

    async def _put(self, request: web.Request) -> web.StreamResponse:
        content = await request.read()
        await asyncio.to_thread(self._objects.put_report, request.match_info["name"], content)
        return web.Response(status=201)

    async def _bell(self, request: web.Request) -> web.StreamResponse:
        """Answer when the channel has changed since what the question names, or with 304 after a time."""
        document = self._objects.channel_of(request.match_info["name"])
        if document is None:
            raise web.HTTPNotFound
        known = request.headers.get("If-None-Match", "")
        with self._watched(document) as changed:
            found = await asyncio.to_thread(self._objects.stamp, document)
            if found == known or not found:
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), self._bell_s)
                found = await asyncio.to_thread(self._objects.stamp, document)
        if found == known or not found:
            return web.Response(status=304)
        return web.Response(text="changed\n", headers={"ETag": found, "Cache-Control": "no-cache"})

    @contextmanager
    def _watched(self, document: str) -> Iterator[asyncio.Event]:
        """Set when the document changes. It is watched while anybody waits for it.

        Then it is forgotten: anybody may ask for any name.
        """
        watch = self._watches.get(document)
        if watch is None:
            watch = self._watches[document] = _Watch()
            watch.task = asyncio.create_task(self._watch(document, watch))
        watch.waiters += 1
        try:
            yield watch.changed
        finally:
            watch.waiters -= 1
            if not watch.waiters and watch.task is not None:
                watch.task.cancel()
                self._forget(document, watch)

    async def _watch(self, document: str, watch: _Watch) -> None:
        before = await asyncio.to_thread(self._objects.stamp, document)
        while True:
            await asyncio.sleep(self._check_s)
            if await asyncio.to_thread(self._objects.stamp, document) != before:
                break
        self._forget(document, watch)
        watch.changed.set()

    def _forget(self, document: str, watch: _Watch) -> None:
        if self._watches.get(document) is watch:
            del self._watches[document]


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Problems as responses; what is refused is logged."""
    try:
        return await handler(request)
    except Problem as problem:
        caller = request.remote or ""
        _log.warning("refused", door="repository", caller=caller, code=problem.code.value, reason=str(problem))
        return web.json_response(problem.to_document(), status=_STATUS.get(problem.code, 403))
