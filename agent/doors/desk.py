"""What each route does: a request whose guards are passed, in; an answer, out.

Invariant: a deployment never depends on who asked for it. It is begun by `submit`, and whoever watches it gets
what there is when they ask; a reader that is slow, or gone, holds up nothing but its own answer.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from agent.core.config import BundleLimits
from agent.deploy import Rollback, Send
from agent.doors.answers import event_stream, json_answer, problem_answer
from agent.doors.connections import Connection
from agent.doors.guards import nearest, printable
from agent.doors.ports import Agent, Deployer, Deployment
from agent.doors.uploads import incoming
from pusher.wire import (
    LOG_LINES,
    LOG_LINES_MOST,
    Code,
    Event,
    LogLine,
    LogUnit,
    Problem,
    Refused,
    Route,
)

_SILENCE_S = 15.0
_UNREAD_S = 60.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Desk:
    """What the answers are made from. `stop` is set when the agent begins to stop.

    A stream of events brings an empty line every `silence_s`; its reader may leave it unread for `unread_s`.
    """

    agent: Agent
    limits: BundleLimits
    stop: asyncio.Event
    silence_s: float = _SILENCE_S
    unread_s: float = _UNREAD_S


@dataclass(frozen=True, slots=True)
class Call:
    """A request: who makes it (for people), what its path names, and its parameters."""

    request: web.BaseRequest
    connection: Connection
    by: str
    names: Mapping[str, str]
    query: Mapping[str, str]


async def healthz(desk: Desk, call: Call) -> web.StreamResponse:
    """Whether the agent is up; says nothing else, for anybody may ask."""
    return json_answer({"status": "ok"})


async def status(desk: Desk, call: Call) -> web.StreamResponse:
    """What is live, and what goes on."""
    return json_answer(await _deployer(desk, call).status())


async def releases(desk: Desk, call: Call) -> web.StreamResponse:
    """The releases on the host, and its recent deployments."""
    return json_answer(await _deployer(desk, call).releases())


async def logs(desk: Desk, call: Call) -> web.StreamResponse:
    """The app's own log, one line of it a line; with `follow` what is written from now on, until somebody goes."""
    deployer = _deployer(desk, call)
    lines, unit, follow = (call.query.get(name, "") for name in ("lines", "unit", "follow"))
    if lines and not (re.fullmatch(r"[0-9]{1,5}", lines, re.ASCII) and int(lines) <= LOG_LINES_MOST):
        raise _unusable("lines", lines, f"Give a number from 0 to {LOG_LINES_MOST}; without one it is {LOG_LINES}")
    if unit not in ("", *LogUnit):
        raise _unusable("unit", unit, nearest(printable(unit), sorted(LogUnit)))
    if follow not in ("", "0", "1"):
        raise _unusable("follow", follow, "Give 1, or leave it out")
    found = deployer.log(lines=int(lines or LOG_LINES), follow=follow == "1", unit=unit)
    answer = event_stream()
    await answer.prepare(call.request)
    await call.connection.while_open(_until_stopped(desk, _tell_log(desk, call, found, answer)))
    return answer


async def index(desk: Desk, call: Call) -> web.StreamResponse:
    """The index that was signed for a release: what is in it, one file or link a line."""
    release = call.query.get("release", "")
    if "release" in call.query and not release:
        raise _unusable("release", release, "Name one, or leave it out for the live one; /releases lists them")
    pieces = await _deployer(desk, call).index(release)
    answer = event_stream()
    await answer.prepare(call.request)
    await call.connection.while_open(_tell(desk, call, pieces, answer, spell=bytes))
    return answer


async def missing(desk: Desk, call: Call) -> web.StreamResponse:
    """Which files a bundle with these papers must bring along."""
    deployer = _deployer(desk, call)
    async with incoming(call.request, limits=desk.limits, stop=desk.stop) as upload:
        digests = await deployer.missing(upload.bundle)
        await upload.rest()
    return json_answer({"missing": digests})


async def deploy(desk: Desk, call: Call) -> web.StreamResponse:
    """Take a bundle in and make it live."""
    deployer = _deployer(desk, call)
    async with incoming(call.request, limits=desk.limits, stop=desk.stop) as upload:
        begun = await deployer.submit(Send(upload.bundle, call.by))
        await begun.taken_in()
        if begun.summary()["outcome"] in (None, "done"):
            await upload.rest()
    return await _begun(call, begun)


async def rollback(desk: Desk, call: Call) -> web.StreamResponse:
    """Make an older release live again."""
    deployer, to = _deployer(desk, call), call.query.get("to")
    if to == "":
        raise _unusable("to", to, "Name a release, or leave it out for the one before; /releases lists them")
    return await _begun(call, await deployer.submit(Rollback(call.by, to=to, leaving=call.query.get("from"))))


async def pin(desk: Desk, call: Call) -> web.StreamResponse:
    """Keep a release from retention."""
    return await _pinned(desk, call, pinned=True)


async def unpin(desk: Desk, call: Call) -> web.StreamResponse:
    """Let retention have a release again."""
    return await _pinned(desk, call, pinned=False)


async def deployment(desk: Desk, call: Call) -> web.StreamResponse:
    """What a deployment is about, and how it ended if it has."""
    return json_answer((await _deployment(desk, call)).summary())


async def events(desk: Desk, call: Call) -> web.StreamResponse:
    """A deployment's events above `after`, one a line, until it has finished."""
    found = await _deployment(desk, call)
    after = call.query.get("after", "0")
    if not re.fullmatch(r"[0-9]{1,9}", after, re.ASCII):
        raise _unusable("after", after, "Give the seq of the last event you have, or 0")
    return await _streamed(desk, call, found.events(after=int(after)))


async def landing(desk: Desk, call: Call) -> web.StreamResponse:
    """What becomes of the landing with this manifest, a line each time, until it is settled."""
    app = _deployer(desk, call).app
    drop = desk.agent.drops.get(app)
    if drop is None:
        raise Refused(Code.CONFIGURATION, f"{app} has no drop directory", hint=f"`pusher-agent app apply {app}`")
    await drop.look()
    return await _streamed(desk, call, drop.results(call.names["manifest"]))


def _unusable(name: str, value: str, hint: str) -> Refused:
    return Refused(Code.BAD_REQUEST, f"The request's {name}={printable(value)} cannot be used", hint=hint)


def _deployer(desk: Desk, call: Call) -> Deployer:
    """That of the app which the path names, or of the only one."""
    apps, name = desk.agent.apps, call.names.get("app")
    known = ", ".join(sorted(apps))
    if name is None and len(apps) > 1:
        example = call.request.path.removeprefix("/")
        raise Refused(
            Code.SEVERAL_APPS,
            "This host has several apps",
            why=f"they are {known}",
            hint=f"Name one: /apps/{min(apps)}/{example}",
        )
    if not apps:
        hint = "Set one up: pusher-agent app add NAME"
        raise Refused(Code.UNKNOWN_APP, "This host has no app yet", hint=hint)
    if name is None:
        return next(iter(apps.values()))
    if name not in apps:
        hint = f"There is {known}"
        raise Refused(Code.UNKNOWN_APP, f"This host has no app {printable(name)}", hint=hint)
    return apps[name]


async def _deployment(desk: Desk, call: Call) -> Deployment:
    name = call.names["deployment"]
    found = await desk.agent.deployment(name)
    if found is None:
        raise Refused(
            Code.UNKNOWN_DEPLOYMENT,
            f"This host knows no deployment {printable(name)}",
            hint="`pusher releases` lists the recent ones",
        )
    return found


async def _begun(call: Call, begun: Deployment) -> web.StreamResponse:
    """What became of a deployment; with `Prefer: respond-async` only that it goes on, unless it has failed."""
    path = Route.DEPLOYMENT.format(deployment=begun.id)
    if _prefers_async(call.request) and begun.summary()["outcome"] in (None, "done"):
        return json_answer(
            {"deployment": begun.id, "app": begun.app},
            status=202,
            headers={"Location": path, "Preference-Applied": "respond-async"},
        )
    last = await call.connection.while_open(begun.finished())
    if last.data["outcome"] == "done":
        return json_answer(last.data)
    return problem_answer(Problem.from_document(last.data["problem"]), instance=path)


def _prefers_async(request: web.BaseRequest) -> bool:
    """Whether `respond-async` is among the preferences (RFC 7240, sections 2 and 4.1)."""
    preferences = ",".join(request.headers.getall("Prefer", [])).split(",")
    return any(one.partition(";")[0].strip().lower() == "respond-async" for one in preferences)


async def _pinned(desk: Desk, call: Call, *, pinned: bool) -> web.StreamResponse:
    deployer = _deployer(desk, call)
    release = call.query.get("release", "")
    if not release:
        raise Refused(
            Code.BAD_REQUEST,
            "The request does not say which release",
            hint="Add ?release=ID; /releases lists them",
        )
    await deployer.pin(release, pinned=pinned, by=call.by)
    return json_answer({"release": release, "pinned": pinned})


async def _streamed(desk: Desk, call: Call, happening: AsyncIterator[Event]) -> web.StreamResponse:
    answer = event_stream()
    await answer.prepare(call.request)
    await call.connection.while_open(_tell(desk, call, happening, answer, spell=Event.to_line))
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
