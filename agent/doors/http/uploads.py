"""A request's body as a bundle: fed from the event loop, read in a worker thread, neither waiting for ever.

Invariant: who reads the bundle decides. Refused, it is answered at once, whatever is still on its way; taken in,
what is left of the body is read and dropped, so that any client gets its answer. A bundle that is read keeps a
thread, so there are never so many that nothing else finds one (`agent.daemon`).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

from agent.core.config import BundleLimits
from agent.host.bundle.pipe import Pipe
from agent.host.bundle.tar import TarBundle
from agent.host.ports import Bundle
from pusher.wire import Code, Failed, Refused

UPLOADS_MOST = 24
"""So many bundles may be on their way at once."""
_EACH_MOST = 8


class Upload:
    """A bundle on its way in."""

    def __init__(self, bundle: Bundle, pipe: Pipe, feeding: asyncio.Task[None]) -> None:
        self.bundle = bundle
        self._pipe = pipe
        self._feeding = feeding

    async def rest(self) -> None:
        """Read and drop what nobody wants any more, to the body's end or until nothing comes."""
        self._pipe.close()
        await self._feeding


@asynccontextmanager
async def incoming(
    request: web.BaseRequest, *, by: str, under_way: Counter[str], limits: BundleLimits, stop: asyncio.Event
) -> AsyncIterator[Upload]:
    """The request's body as an upload, which begins at once. Left early, the rest of the body stays unread.

    When `stop` is set, its reader gets no more. `under_way` counts the uploads, by whom.

    Raises: Refused(bad_request) for a body that does not travel as it is, Refused(busy) for one too many.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(
            Code.BAD_REQUEST,
            "The bundle cannot be read",
            why="the request has a Content-Encoding, and a bundle is compressed already",
            hint="Send the file as it is",
        )
    with _counted(by, under_way):
        pipe = Pipe(stall_s=limits.stall_s, total_s=limits.total_s)
        feeding = asyncio.create_task(_feed(request, pipe, stall_s=limits.stall_s))
        stopping = asyncio.create_task(_fail_when(stop, pipe))
        try:
            yield Upload(TarBundle(pipe.read), pipe, feeding)
        finally:
            feeding.cancel()
            stopping.cancel()
            # A reader is left behind only when the door is torn down: it must not wait for what never comes.
            pipe.fail(_interrupted())
            await asyncio.wait([feeding, stopping])


@contextmanager
def _counted(by: str, under_way: Counter[str]) -> Iterator[None]:
    """Counts one more for as long as the context lasts. Raises: Refused(busy)."""
    if under_way[by] >= _EACH_MOST or under_way.total() >= UPLOADS_MOST:
        whose = f"{under_way[by]} of them are of {by}" if under_way[by] else "they are others'"
        raise Refused(
            Code.BUSY,
            "Too many bundles are on their way to this host",
            why=f"{under_way.total()} are, and {whose}",
            hint="Try again when some of them have arrived",
        )
    under_way[by] += 1
    try:
        yield
    finally:
        under_way[by] -= 1
        if not under_way[by]:
            del under_way[by]


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
    """Feed the body to the pipe while its reader wants it, and read the rest of it for nobody."""
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
