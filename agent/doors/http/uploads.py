"""A request's body as a bundle: fed by the event loop, read in a thread, and neither waits for ever.

Invariant: the reader of the bundle decides. If it refuses the bundle, the response is sent at once, whatever is
still on its way. If it accepts the bundle, the rest of the body is read and dropped, so that any client gets its
response. A bundle that is being read keeps a thread, so there are never so many that nothing else finds one
(`agent.daemon`).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

from agent.core.config.host import BundleLimits
from agent.doors.http.requests import Request
from agent.host.bundle.pipe import Pipe
from agent.host.bundle.tar import TarBundle
from agent.host.ports import Bundle
from pusher.wire import Code, Failed, Refused

UPLOADS_MOST = 24
"""How many bundles may be on their way at once."""
_EACH_MOST = 8


class Upload:
    """A bundle on its way in."""

    def __init__(self, bundle: Bundle, pipe: Pipe, feeding: asyncio.Task[None]) -> None:
        self.bundle = bundle
        self._pipe = pipe
        self._feeding = feeding

    async def drain(self) -> None:
        """Read and drop the rest of the body, until it ends or nothing arrives any more."""
        self._pipe.close()
        await self._feeding


class Uploads:
    """Receives bundles. When `stop` is set, their readers get no more."""

    def __init__(self, *, limits: BundleLimits, stop: asyncio.Event) -> None:
        self._limits = limits
        self._stop = stop
        self._under_way: Counter[str] = Counter()

    @property
    def under_way(self) -> int:
        """How many bundles are on their way now."""
        return self._under_way.total()

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[Upload]:
        """The request's body as an upload, which begins at once. Left early, the rest of the body stays unread.

        Raises: Refused(bad_request) for a body with a content encoding, Refused(busy) for one upload too many.
        """
        if request.http.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refused(
                Code.BAD_REQUEST,
                "The bundle cannot be read",
                why="the request has a Content-Encoding, and a bundle is compressed already",
                hint="Send the file as it is",
            )
        with self._counted(request.by):
            pipe = Pipe(stall_s=self._limits.stall_s, total_s=self._limits.total_s)
            feeding = asyncio.create_task(_feed(request.http, pipe, stall_s=self._limits.stall_s))
            stopping = asyncio.create_task(_fail_when(self._stop, pipe))
            try:
                yield Upload(TarBundle(pipe.read), pipe, feeding)
            finally:
                feeding.cancel()
                stopping.cancel()
                # If the door is torn down, a reader is left: it must not wait for bytes that never come.
                pipe.fail(_interrupted())
                await asyncio.wait([feeding, stopping])

    @contextmanager
    def _counted(self, by: str) -> Iterator[None]:
        """Count an upload while the context lasts. Raises: Refused(busy)."""
        if self._under_way[by] >= _EACH_MOST or self._under_way.total() >= UPLOADS_MOST:
            own = self._under_way[by]
            raise Refused(
                Code.BUSY,
                "Too many bundles are on their way to this host",
                why=f"{self._under_way.total()} are, {own or 'none'} of them from {by}",
                hint="Try again when some of them have arrived",
            )
        self._under_way[by] += 1
        try:
            yield
        finally:
            self._under_way[by] -= 1
            if not self._under_way[by]:
                del self._under_way[by]


async def _fail_when(stop: asyncio.Event, pipe: Pipe) -> None:
    await stop.wait()
    pipe.fail(_interrupted())


def _interrupted() -> Failed:
    return Failed(
        Code.INTERRUPTED,
        "The agent was stopped before the bundle had arrived",
        hint="Send it again when the agent is up",
    )


async def _feed(request: web.BaseRequest, pipe: Pipe, *, stall_s: float) -> None:
    """Feed the body to the pipe while its reader wants it, and drop the rest."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    wanted = True
    try:
        while True:
            async with asyncio.timeout(stall_s):
                chunk = await request.content.readany()
            if not chunk:
                break
            wanted = wanted and await pipe.feed(chunk)
    except (OSError, web.RequestPayloadError) as error:
        why = f"nothing came for {stall_s:g} s" if isinstance(error, TimeoutError) else str(error)
        pipe.fail(Failed(Code.UPLOAD_BROKEN, "The bundle did not arrive whole", why=why, hint="Send it again"))
    else:
        pipe.finish()
