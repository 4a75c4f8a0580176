"""Responses that are sent line by line, as things happen.

Invariant: a reader that is slow, or gone, holds up nothing but its own response.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import TypeVar

from aiohttp import web

from agent.doors.http.requests import Request
from agent.doors.http.responses import event_stream
from pusher.wire import LogLine, Problem

_T = TypeVar("_T")


class Streams:
    """Sends streams. Each brings an empty line every `silence_s`, and may stay unread for `unread_s`.

    `stop` is set when the agent begins to stop.
    """

    def __init__(self, *, silence_s: float, unread_s: float, stop: asyncio.Event) -> None:
        self._silence_s = silence_s
        self._unread_s = unread_s
        self._stop = stop

    async def send(
        self, request: Request, items: AsyncIterator[_T], *, encode: Callable[[_T], bytes]
    ) -> web.StreamResponse:
        """Send all items, until they or the reader end. `encode` makes whole lines of one."""
        response = event_stream()
        await response.prepare(request.http)
        await request.connection.while_open(self._write(request, items, response, encode=encode))
        return response

    async def send_log(self, request: Request, lines: AsyncIterator[LogLine]) -> web.StreamResponse:
        """Send the lines of a log. They need not end: the reader ends the stream, or the agent when it stops."""
        response = event_stream()
        await response.prepare(request.http)
        await request.connection.while_open(self._until_stopped(self._write_log(request, lines, response)))
        return response

    async def _until_stopped(self, writing: Coroutine[None, None, None]) -> None:
        """Run `writing` to its end, or until the agent stops."""
        written, stopped = asyncio.create_task(writing), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({written, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if written.done():
                written.result()
        finally:
            written.cancel()
            stopped.cancel()
            await asyncio.wait({written, stopped})  # the log is closed, too

    async def _write_log(
        self, request: Request, lines: AsyncIterator[LogLine], response: web.StreamResponse
    ) -> None:
        """Write as `_write` does. The response has begun, so a problem can only be its last line."""
        try:
            await self._write(request, lines, response, encode=LogLine.to_line)
        except Problem as problem:
            await response.write(LogLine.broken_off(problem))

    async def _write(
        self,
        request: Request,
        items: AsyncIterator[_T],
        response: web.StreamResponse,
        *,
        encode: Callable[[_T], bytes],
    ) -> None:
        """Write each item when it comes, and an empty line now and then. That keeps proxies from closing the
        connection, and shows whether the reader is still there. Raises: ConnectionError."""
        keeping_alive = asyncio.create_task(_keep_alive(response, every_s=self._silence_s))
        try:
            async for item in items:
                async with asyncio.timeout(self._unread_s):
                    await response.write(encode(item))
        except TimeoutError:
            if request.http.transport is not None:
                # Not `close`, which waits until the reader has taken what is written.
                request.http.transport.abort()
            raise ConnectionResetError("the reader reads nothing") from None
        finally:
            keeping_alive.cancel()
            if isinstance(items, AsyncGenerator):
                await items.aclose()


async def _keep_alive(response: web.StreamResponse, *, every_s: float) -> None:
    with suppress(ConnectionError):
        while True:
            await asyncio.sleep(every_s)
            await response.write(b"\n")
