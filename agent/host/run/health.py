"""Health checks: a release is asked over HTTP, as a visitor would ask, and its answer is compared with [health].

Invariant: every request has a connection of its own, and at most one is open at a time. So a connection that
still waits when the time is up shows that the app does not accept from its socket.
"""

import asyncio
import json
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
from yarl import URL

from agent.core.config.app import Health
from agent.core.ending import find_cause, without_noise
from agent.core.listen import parse_listen
from agent.host.net.sockets import short_path
from agent.host.ports import Clock, Running
from agent.host.run.ended import ended, not_loaded
from agent.host.run.process import plain_text
from pusher.wire import Code, Failed

BODY_BYTES = 64 * 1024
"""How many bytes of an answer are read."""

_SHOWN_LINES = 20
_SHOWN_TARGET = 200
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.25
_WATCH_EVERY_S = 1.0
_BROKEN = (aiohttp.ClientError, OSError, ValueError)
# The same on both sockets: an app that checks it must not accept a candidate's request and refuse the public one.
_HOST = "localhost"
_HOST_REFUSED = (400, 403, 404, 421)  # how frameworks and virtual hosts answer to a name they do not know
_HINT = "Correct the release, or [health] in the app's configuration"
_HINT_VERSION = (
    "The app must say the version as which it was sent. It is the first line of REVISION in the app's folder: the "
    "git tag, or the NAME of `pusher send --as NAME`"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with an answer. `body` is the part of it to show. `final`: a retry cannot help."""

    why: str
    body: str = ""
    hint: str = _HINT
    final: bool = False
    answered: bool = True


async def check(running: Running, health: Health, *, version: str, deadline_s: float, clock: Clock) -> None:
    """Ask until the release is healthy, for at most `deadline_s` seconds.

    The socket queues, so the first request normally waits until the app is up. After a wrong answer it soon asks
    again (an app may say 503 while it warms up), but not after the answer of another version.

    Raises: Failed(app_exited), as soon as the main process has ended; Failed(socket_not_taken);
    Failed(app_unhealthy), for everything else. `output` has its answer and the last lines it wrote.
    """
    asking = Asking(running, health, version=version)
    await _while_alive(running, _until_healthy(asking, clock), limit_s=deadline_s, clock=clock)
    if asking.finding is None:
        return
    if not asking.finding.answered and not await running.accepts():
        raise not_loaded(running.placed, deadline_s=deadline_s, written=await running.tail())
    final = asking.finding.final
    await _fail_unhealthy(running, asking.finding, when="" if final else f" within {deadline_s:g} s")


async def watch(running: Running, health: Health, *, version: str, seconds: float, clock: Clock) -> None:
    """Go on asking for `seconds`. The end of the main process or one bad answer is a failure.

    Raises: Failed(app_exited, app_unhealthy).
    """
    began = clock.elapsed()
    while (left := began + seconds - clock.elapsed()) > 0:
        asking = Asking(running, health, version=version)
        await _while_alive(running, asking.ask(), limit_s=health.deadline_s, clock=clock)
        if asking.finding is not None:
            seconds_live = clock.elapsed() - began
            await _fail_unhealthy(running, asking.finding, when=f" {seconds_live:.0f} s after it went live")
        await _while_alive(running, clock.sleep(min(_WATCH_EVERY_S, left)), limit_s=left, clock=clock)


class Asking:
    """Asks one release. `finding` is what was wrong with the last answer; None if it was healthy."""

    def __init__(self, running: Running, health: Health, *, version: str) -> None:
        self.finding: Finding | None = Finding("it did not answer", answered=False)
        self._health = health
        self._version = version
        self._url, self._path = url_of(running.address, health)

    async def ask(self) -> None:
        """Ask once."""
        headers = {"User-Agent": "pusher-agent", "Accept-Encoding": "identity", "Host": self._health.host or _HOST}
        headers |= self._health.headers
        async with AsyncExitStack() as stack:
            connector: aiohttp.BaseConnector
            if self._path is None:
                connector = aiohttp.TCPConnector(force_close=True)
            else:
                short = stack.enter_context(short_path(self._path))
                connector = aiohttp.UnixConnector(short, force_close=True)
            session = await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=None),
                    auto_decompress=False,
                    headers=headers,
                )
            )
            try:
                async with session.get(self._url, allow_redirects=False) as response:
                    body = await _read(response.content)
                    target = response.headers.get("Location", "")
                    self.finding = find_fault(
                        response.status, body, self._health, version=self._version, target=target
                    )
            except _BROKEN as error:
                self.finding = Finding(f"the connection broke ({type(error).__name__}: {error})")


def url_of(address: str, health: Health) -> tuple[URL, Path | None]:
    """The URL to ask, and the path of the unix socket if it is one. For an "any" address, the loopback address."""
    where = parse_listen(address)
    if isinstance(where, str):
        return URL(f"http://localhost{health.path}", encoded=True), Path(where)
    host, port = where
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    host = f"[{host}]" if ":" in host else host
    return URL(f"http://{host}:{port}{health.path}", encoded=True), None


def find_fault(status: int, body: bytes, health: Health, *, version: str, target: str = "") -> Finding | None:
    """What is wrong with an answer, if anything. `target` is its Location header."""
    shown = "\n".join(plain_text(body).splitlines()[:_SHOWN_LINES])
    if status not in health.status:
        wanted = " or ".join(map(str, health.status))
        sent = f" and redirects to {plain_text(target.encode(errors='replace'))[:_SHOWN_TARGET]}" if target else ""
        why = f"{health.path} answered {status}{sent}, expected was {wanted}"
        return Finding(why, shown, hint=_hint(status, health, target=target))
    if not health.version_member:
        return None
    try:
        members: Any = json.loads(body)
    except (ValueError, RecursionError):
        return Finding(f"{health.path} did not answer JSON, which version_member needs", shown)
    if not isinstance(members, dict) or health.version_member not in members:
        return Finding(f"{health.path} answered JSON without the member {health.version_member!r}", shown)
    answered = members[health.version_member]
    if answered != version:
        why = f"{health.path} says version {answered!r:.200}, not {version!r}"
        return Finding(why, shown, hint=_HINT_VERSION, final=True)
    return None


def _hint(status: int, health: Health, *, target: str) -> str:
    if 300 <= status < 400 and target.startswith("https:"):
        headers = '[health] headers = { X-Forwarded-Proto = "https" }'
        return f"The app wants https. nginx would tell it so, and the health check can: {headers}"
    if 300 <= status < 400:
        return (
            "Redirects are not followed. Set [health] path to a page that answers by itself, or add the status to "
            "[health] status"
        )
    if status in _HOST_REFUSED and not health.host:
        return (
            f"{_HINT}. The Host header was {_HOST}: if the app checks it, set [health] host to a name it accepts"
        )
    return _HINT


async def _until_healthy(asking: Asking, clock: Clock) -> None:
    began = clock.elapsed()
    await asking.ask()
    while asking.finding is not None and not asking.finding.final:
        # A tenth of the time spent so far: quick at first, yet no flood of requests to an app that is ill.
        pause = (clock.elapsed() - began) / 10
        await clock.sleep(min(max(pause, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S))
        await asking.ask()


async def _while_alive(running: Running, doing: Awaitable[None], *, limit_s: float, clock: Clock) -> None:
    """Await `doing` for at most `limit_s` seconds. Raises: Failed(app_exited), when the main process ends."""
    task, end = asyncio.ensure_future(doing), asyncio.ensure_future(running.wait())
    limit = asyncio.ensure_future(clock.sleep(limit_s))
    try:
        await asyncio.wait({task, end, limit}, return_when=asyncio.FIRST_COMPLETED)
        if end.done():
            raise ended(running.placed, why=end.result(), written=await running.tail())
        if task.done():
            task.result()
    finally:
        for waiting in (task, end, limit):
            waiting.cancel()
        await asyncio.gather(task, end, limit, return_exceptions=True)


async def _read(content: aiohttp.StreamReader) -> bytes:
    body = b""
    while len(body) < BODY_BYTES and (chunk := await content.read(BODY_BYTES - len(body))):
        body += chunk
    return body


async def _fail_unhealthy(running: Running, finding: Finding, *, when: str) -> NoReturn:
    written = without_noise(await running.tail())
    placed, why, body, hint = running.placed, finding.why, finding.body, finding.hint
    # An error of the app's own is the reason, and its log has it once for each time it was asked.
    if finding.answered and (cause := find_cause(written, release=placed.release, start=placed.run.start)):
        why, written, hint = f"{why}; its log says {cause.why}", cause.output, cause.hint or hint
        body = "" if "Traceback (most recent" in body else body  # the same once more
    output = f"{body}\n\n{written}" if body and written else body or written
    raise Failed(
        Code.APP_UNHEALTHY,
        f"Release {placed.release} was not healthy{when}",
        why=why,
        hint=hint,
        output=output,
    )
