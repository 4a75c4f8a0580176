"""The page that a browser on the host shows: its files, each by its name in a table.

Invariant: it only reads, and so does everything that it asks. What a browser can change at this door is nothing.
"""

import asyncio
from importlib.resources import files

from aiohttp import web

from agent.doors.http.guards import nearest, printable
from pusher.wire import Code, Refused
from pusher.wire.page import AGENT_FILES, AGENT_START, PAGE_HEADERS, START_TYPE


async def start_page() -> web.Response:
    """The page itself."""
    return await _file(AGENT_START, START_TYPE)


async def page_file(name: str) -> web.Response:
    """One of its other files. Raises: Refused(bad_request), for every name that is not in the table."""
    kind = AGENT_FILES.get(name)
    if kind is None:
        what = f"The page has no file {printable(name)}"
        raise Refused(Code.BAD_REQUEST, what, hint=nearest(printable(name), sorted(AGENT_FILES)))
    return await _file(name, kind)


async def _file(name: str, kind: str) -> web.Response:
    body = await asyncio.to_thread((files("pusher.wire.page") / name).read_bytes)
    return web.Response(body=body, headers={**PAGE_HEADERS, "Server": "pusher-agent", "Content-Type": kind})
