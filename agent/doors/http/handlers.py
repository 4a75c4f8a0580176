"""What each route does: a request whose guards are passed, in; an answer, out.

Invariant: a deployment never depends on who asked for it. It is begun by `submit`, and whoever watches it gets
what there is when they ask; a reader that is slow, or gone, holds up nothing but its own answer.
"""

import re
from contextlib import AbstractAsyncContextManager

from aiohttp import web

from agent.deploy.deployer import Rollback, Send
from agent.doors.http.guards import nearest, printable
from agent.doors.http.requests import Call, Desk, app_of, deployment_of, unusable
from agent.doors.http.responses import json_answer, problem_answer
from agent.doors.http.streams import stream, stream_log
from agent.doors.http.uploads import Upload, incoming
from agent.doors.ports import Deployment
from pusher.wire import LOG_LINES, LOG_LINES_MOST, Code, Event, LogUnit, Problem, Refused, Route


async def healthz(desk: Desk, call: Call) -> web.StreamResponse:
    """Whether the agent is up; says nothing else, for anybody may ask."""
    return json_answer({"status": "ok"})


async def status(desk: Desk, call: Call) -> web.StreamResponse:
    """What is live, and what goes on."""
    return json_answer(await app_of(desk, call).status.summary())


async def releases(desk: Desk, call: Call) -> web.StreamResponse:
    """The releases on the host, and its recent deployments."""
    return json_answer(await app_of(desk, call).status.releases())


async def logs(desk: Desk, call: Call) -> web.StreamResponse:
    """The app's own log, one line of it a line; with `follow` what is written from now on, until somebody goes."""
    status = app_of(desk, call).status
    lines, unit, follow = (call.query.get(name, "") for name in ("lines", "unit", "follow"))
    if lines and not (re.fullmatch(r"[0-9]{1,5}", lines, re.ASCII) and int(lines) <= LOG_LINES_MOST):
        raise unusable("lines", lines, f"Give a number from 0 to {LOG_LINES_MOST}; without one it is {LOG_LINES}")
    if unit not in ("", *LogUnit):
        raise unusable("unit", unit, nearest(printable(unit), sorted(LogUnit)))
    if follow not in ("", "0", "1"):
        raise unusable("follow", follow, "Give 1, or leave it out")
    found = status.log(lines=int(lines or LOG_LINES), follow=follow == "1", unit=unit)
    return await stream_log(desk, call, found)


async def index(desk: Desk, call: Call) -> web.StreamResponse:
    """The index that was signed for a release: what is in it, one file or link a line."""
    release = call.query.get("release", "")
    if "release" in call.query and not release:
        raise unusable("release", release, "Name one, or leave it out for the live one; /releases lists them")
    pieces = await app_of(desk, call).status.index(release)
    return await stream(desk, call, pieces, spell=bytes)


async def missing(desk: Desk, call: Call) -> web.StreamResponse:
    """Which files a bundle with these papers must bring along."""
    deployer = app_of(desk, call).deployer
    async with _incoming(desk, call) as upload:
        digests = await deployer.missing(upload.bundle)
        await upload.rest()
    return json_answer({"missing": digests})


async def deploy(desk: Desk, call: Call) -> web.StreamResponse:
    """Take a bundle in and make it live."""
    deployer = app_of(desk, call).deployer
    async with _incoming(desk, call) as upload:
        begun = await deployer.submit(Send(upload.bundle, call.by))
        await begun.consumed()
        if begun.summary()["outcome"] in (None, "done"):
            await upload.rest()
    return await _begun(call, begun)


async def rollback(desk: Desk, call: Call) -> web.StreamResponse:
    """Make an older release live again."""
    deployer, to = app_of(desk, call).deployer, call.query.get("to")
    if to == "":
        raise unusable("to", to, "Name a release, or leave it out for the one before; /releases lists them")
    return await _begun(call, await deployer.submit(Rollback(call.by, to=to, leaving=call.query.get("from"))))


async def pin(desk: Desk, call: Call) -> web.StreamResponse:
    """Keep a release from retention."""
    return await _pinned(desk, call, pinned=True)


async def unpin(desk: Desk, call: Call) -> web.StreamResponse:
    """Let retention have a release again."""
    return await _pinned(desk, call, pinned=False)


async def deployment(desk: Desk, call: Call) -> web.StreamResponse:
    """What a deployment is about, and how it ended if it has."""
    return json_answer((await deployment_of(desk, call)).summary())


async def events(desk: Desk, call: Call) -> web.StreamResponse:
    """A deployment's events above `after`, one a line, until it has finished."""
    found = await deployment_of(desk, call)
    after = call.query.get("after", "0")
    if not re.fullmatch(r"[0-9]{1,9}", after, re.ASCII):
        raise unusable("after", after, "Give the seq of the last event you have, or 0")
    return await stream(desk, call, found.events(after=int(after)), spell=Event.to_line)


async def landing(desk: Desk, call: Call) -> web.StreamResponse:
    """What becomes of the landing with this manifest, a line each time, until it is settled."""
    app = app_of(desk, call).name
    drop = desk.agent.drops.get(app)
    if drop is None:
        raise Refused(Code.CONFIGURATION, f"{app} has no drop directory", hint=f"`pusher-agent app apply {app}`")
    manifest = call.names["manifest"]
    if not re.fullmatch(r"[0-9a-f]{64}", manifest, re.ASCII):
        raise unusable("manifest", manifest, "Give the SHA-256 of the manifest's file, as sha256sum writes it")
    await drop.look()
    return await stream(desk, call, drop.results(manifest), spell=Event.to_line)


def _incoming(desk: Desk, call: Call) -> AbstractAsyncContextManager[Upload]:
    """The bundle that the request brings."""
    return incoming(call.request, by=call.by, under_way=desk.uploads, limits=desk.limits, stop=desk.stop)


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
    deployer = app_of(desk, call).deployer
    release = call.query.get("release", "")
    if not release:
        raise Refused(
            Code.BAD_REQUEST,
            "The request does not say which release",
            hint="Add ?release=ID; /releases lists them",
        )
    await deployer.pin(release, pinned=pinned, by=call.by)
    return json_answer({"release": release, "pinned": pinned})
