"""The server of a repository: objects with ETag and Range, the bell by long poll, reports and publishing by PUT.

Invariant: it serves what is in the folder, and trusts nobody: hosts believe signatures and digests. Nobody but a
publisher who is known by name, and a host with its report, can make it write.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from agent.repository.logins import Logins
from agent.repository.names import Kind, channel_of, kind_of
from agent.repository.objects import Objects
from agent.repository.publishing import LIST_BYTES, Incoming, Publishing, document_tag
from pusher.wire import Code, Failed, Problem, Refused
from pusher.wire.report import REPORT_BYTES

_log = structlog.get_logger()

BELL_S = 120.0
"""How long a question for the bell waits."""
_CHECK_EVERY_S = 0.25
_STATUS = {
    Code.NOT_ALLOWED: 403,
    Code.BAD_REQUEST: 400,
    Code.CHANNEL_CHANGED: 412,
    Code.LIMIT_EXCEEDED: 413,
    Code.WRONG_HOST: 422,
    Code.CHANNEL_MALFORMED: 422,
    Code.CONTENT_MISMATCH: 422,
    Code.UPLOAD_BROKEN: 400,
    Code.BUSY: 503,
    Code.DISK_ERROR: 500,
    Code.DISK_FULL: 507,
}
_UPLOADS_MOST = 4
_STALL_S = 30.0
_PIECE = 256 * 1024
_NOT_CACHED = {"Cache-Control": "no-cache"}


@dataclass(slots=True)
class _Watch:
    """A document that somebody waits for."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    waiters: int = 0
    task: asyncio.Task[None] | None = None


class RepositoryServer:
    """Serves `objects` at an address. `bell_s` is how long a bell is waited for, `check_s` how often the
    document is checked.

    Publishers whom `logins` knows write by `publishing`; `stall_s` is how long an upload may stand still.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        host: str,
        port: int,
        publishing: Publishing | None = None,
        logins: Logins | None = None,
        stall_s: float = _STALL_S,
        tls: ssl.SSLContext | None = None,
        bell_s: float = BELL_S,
        check_s: float = _CHECK_EVERY_S,
    ) -> None:
        self._objects = objects
        self._publishing = publishing
        self._logins = logins or Logins({})
        self._stall_s = stall_s
        self._uploads = 0
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
        """Open it; the port. Raises: OSError, Failed."""
        if self._publishing is not None:
            await asyncio.to_thread(self._publishing.clear)
        app = web.Application(middlewares=[_refusals])
        app.router.add_get("/{name:bells/.+}", self._bell)
        app.router.add_get("/{name:.*}", self._get)
        app.router.add_put("/{name:.*}", self._put)
        app.router.add_delete("/{name:.*}", self._delete)
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
            raise web.HTTPNotFound(headers=_NOT_CACHED)  # a cache would go on without a brake
        headers = {"Content-Type": "application/octet-stream", **_NOT_CACHED}
        if name.startswith("bundles/"):
            headers["Cache-Control"] = "public, max-age=31536000, immutable"
            return web.FileResponse(path, headers=headers)
        # Not a tag of time and size: two documents that are written within a tick of the clock would share it.
        # Only what is gone is not there: for a brake, "not found" means that hosts may begin.
        content = await asyncio.to_thread(self._objects.read, path)
        if content is None:
            raise web.HTTPNotFound(headers=_NOT_CACHED)
        headers["ETag"] = document_tag(content)
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, headers=headers)

    async def _put(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        found = kind_of(name)
        if found is None or found[0] is Kind.REPORT:
            content = await self._body(request, REPORT_BYTES)
            await asyncio.to_thread(self._objects.put_report, name, content)
            return web.Response(status=201)
        publishing = self._allowed(request, name)
        if found[0] is Kind.BUNDLE:
            return await self._receive(request, publishing, name)
        content = await self._body(request, LIST_BYTES)
        headers = request.headers
        conditions = {"match": headers.get("If-Match", ""), "none_match": headers.get("If-None-Match", "")}
        tag = await asyncio.to_thread(publishing.replace, name, content, **conditions)
        _log.info("published", object=name)
        return web.Response(status=201, headers={"ETag": tag})

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        await asyncio.to_thread(self._allowed(request, name).remove, name)
        return web.Response(status=204)

    def _allowed(self, request: web.Request, name: str) -> Publishing:
        """What this request may write by. Raises: HTTPUnauthorized; Refused, where nobody publishes."""
        if self._publishing is None or not self._logins:
            hint = "Name publishers in the server's file, or publish into its folder"
            raise Refused(
                Code.NOT_ALLOWED, f"{name[:200]} cannot be written", why="nobody publishes here", hint=hint
            )
        who = self._logins.who(request.headers.get("Authorization", ""))
        if not who:
            _log.warning(
                "refused", door="repository", caller=request.remote or "", reason="no login of a publisher"
            )
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="repository", charset="UTF-8"'})
        return self._publishing

    async def _body(self, request: web.Request, most: int) -> bytes:
        """A small body. Raises: HTTPRequestEntityTooLarge; Failed, if it stalls."""
        if (request.content_length or 0) > most:
            raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=request.content_length or 0)
        content = bytearray()
        async for piece in self._pieces(request):
            content += piece
            if len(content) > most:
                raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=len(content))
        return bytes(content)

    async def _pieces(self, request: web.Request) -> AsyncIterator[bytes]:
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refused(Code.BAD_REQUEST, "The body cannot be read", why="it has a Content-Encoding")
        try:
            while True:
                async with asyncio.timeout(self._stall_s):
                    piece = await request.content.read(_PIECE)
                if not piece:
                    return
                yield piece
        except (OSError, web.RequestPayloadError) as error:
            why = f"nothing came for {self._stall_s:g} s" if isinstance(error, TimeoutError) else str(error)
            raise Failed(Code.UPLOAD_BROKEN, "It did not arrive whole", why=why, hint="Send it again") from error

    async def _receive(self, request: web.Request, publishing: Publishing, name: str) -> web.StreamResponse:
        """A bundle, put in place when it is whole."""
        if request.content_length is None:
            raise web.HTTPLengthRequired
        if self._uploads >= _UPLOADS_MOST:
            why = f"{self._uploads} are"
            raise Failed(Code.BUSY, "Too many bundles are on their way", why=why, hint="Try again in a moment")
        self._uploads += 1
        incoming: Incoming | None = None
        try:
            incoming = await asyncio.to_thread(publishing.begin, name, request.content_length)
            if incoming is None:
                return web.Response(status=412)
            async for piece in self._pieces(request):
                await asyncio.to_thread(incoming.append, piece)
            await asyncio.to_thread(incoming.finish)
            _log.info("published", object=name)
            return web.Response(status=201)
        finally:
            self._uploads -= 1
            if incoming is not None:
                await asyncio.shield(asyncio.to_thread(incoming.abandon))

    async def _bell(self, request: web.Request) -> web.StreamResponse:
        """Answer when the channel has changed since what the question names, or with 304 after a time."""
        document = channel_of(request.match_info["name"])
        if document is None:
            raise web.HTTPNotFound
        known = request.headers.get("If-None-Match", "")
        with self._watched(document) as watch:
            # What changes before this is found here, and what changes afterwards by the watch.
            await watch.begun.wait()
            found = await asyncio.to_thread(self._objects.stamp, document)
            if found == known or not found:
                with suppress(TimeoutError):
                    await asyncio.wait_for(watch.changed.wait(), self._bell_s)
                found = await asyncio.to_thread(self._objects.stamp, document)
        if found == known or not found:
            return web.Response(status=304)
        return web.Response(text="changed\n", headers={"ETag": found, **_NOT_CACHED})

    @contextmanager
    def _watched(self, document: str) -> Iterator[_Watch]:
        """The watch of a document, which is watched while anybody waits for it.

        Then it is forgotten: anybody may ask for any name.
        """
        watch = self._watches.get(document)
        if watch is None:
            watch = self._watches[document] = _Watch()
            watch.task = asyncio.create_task(self._watch(document, watch))
        watch.waiters += 1
        try:
            yield watch
        finally:
            watch.waiters -= 1
            if not watch.waiters and watch.task is not None:
                watch.task.cancel()
                self._forget(document, watch)

    async def _watch(self, document: str, watch: _Watch) -> None:
        before = await asyncio.to_thread(self._objects.stamp, document)
        watch.begun.set()
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
