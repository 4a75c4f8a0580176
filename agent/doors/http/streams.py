"""Answers that are told line by line, as there is something to tell.

Invariant: a reader that is slow, or gone, holds up nothing but its own answer.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import TypeVar

from aiohttp import web

from agent.doors.http.requests import Call, Desk
from agent.doors.http.responses import event_stream
from pusher.wire import LogLine, Problem

_T = TypeVar("_T")


async def stream(
    desk: Desk, call: Call, happening: AsyncIterator[_T], *, spell: Callable[[_T], bytes]
) -> web.StreamResponse:
    """Tell all that happens, to its end or the reader's. `spell` makes whole lines of it."""
    answer = event_stream()
    await answer.prepare(call.request)
    await call.connection.while_open(_tell(desk, call, happening, answer, spell=spell))
    return answer


async def stream_log(desk: Desk, call: Call, lines: AsyncIterator[LogLine]) -> web.StreamResponse:
    """Tell the lines of a log, which need not have an end: that is the reader's, or the agent's."""
    answer = event_stream()
    await answer.prepare(call.request)
    await call.connection.while_open(_until_stopped(desk, _tell_log(desk, call, lines, answer)))
    return answer


async def _until_stopped(desk: Desk, telling: Coroutine[None, None, None]) -> None:
    """`telling`, to its end, or until the agent stops."""
    told, stopped = asyncio.create_task(telling), asyncio.create_task(desk.stop.wait())
    try:
        await asyncio.wait({told, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            told.result()
    finally:
        told.cancel()
        stopped.cancel()
        await asyncio.wait({told, stopped})  # what is read has an end, too


async def _tell_log(desk: Desk, call: Call, lines: AsyncIterator[LogLine], answer: web.StreamResponse) -> None:
    """As `_tell`. The answer has begun, so that a problem can only be its last line."""
    try:
        await _tell(desk, call, lines, answer, spell=LogLine.to_line)
    except Problem as problem:
        await answer.write(LogLine.broken_off(problem))


async def _tell(
    desk: Desk,
    call: Call,
    happening: AsyncIterator[_T],
    answer: web.StreamResponse,
    *,
    spell: Callable[[_T], bytes],
) -> None:
    """Write each event when it comes, and now and then an empty line: that keeps the way to the reader open, and
    shows whether it is still there. `spell` makes whole lines of it. Raises: ConnectionError."""
    breathing = asyncio.create_task(_breathe(answer, every_s=desk.silence_s))
    try:
        async for event in happening:
            async with asyncio.timeout(desk.unread_s):
                await answer.write(spell(event))
    except TimeoutError:
        if call.request.transport is not None:
            call.request.transport.abort()  # a mere close would wait until it took what is written
        raise ConnectionResetError("the reader took nothing") from None
    finally:
        breathing.cancel()
        if isinstance(happening, AsyncGenerator):
            await happening.aclose()


async def _breathe(answer: web.StreamResponse, *, every_s: float) -> None:
    with suppress(ConnectionError):
        while True:
            await asyncio.sleep(every_s)
            await answer.write(b"\n")
