"""The way to an agent whose clock is wrong: what it says goes through here, with another time in its head."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

_DATE = re.compile(rb"\r\nDate: [^\r]*")


@asynccontextmanager
async def skewed(address: str, *, ahead: timedelta) -> AsyncIterator[str]:
    """The address of an agent at `address` whose clock is so far ahead."""
    host, _, port = address.rpartition(":")
    tasks = set[asyncio.Task[None]]()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while raw := await reader.read(65536):
            date = format_datetime(datetime.now(UTC) + ahead, usegmt=True)
            writer.write(_DATE.sub(b"\r\nDate: " + date.encode(), raw).replace(own, address.encode()))
            await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(host, int(port))
        for one in (passed(reader, there[1]), passed(there[0], writer)):
            task = asyncio.create_task(one)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    own = b"127.0.0.1:%d" % server.sockets[0].getsockname()[1]  # the Host of a request is the agent's own
    try:
        yield own.decode()
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
