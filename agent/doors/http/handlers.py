"""What each route does: a request that has passed all guards in, a response out.

Invariant: a deployment never depends on the request that began it. `submit` begins it, and anyone who watches it
gets what there is when they ask. A reader that is slow, or gone, holds up nothing but its own response.
"""

import asyncio
import importlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from agent.deploy.deployer import Rollback, Send
from agent.doors.http.guards import nearest, printable
from agent.doors.http.metrics import Metrics
from agent.doors.http.page import page_file, start_page
from agent.doors.http.requests import Request, bad_parameter
from agent.doors.http.responses import json_response, problem_response, text_response
from agent.doors.http.streams import Streams
from agent.doors.http.uploads import Uploads
from agent.doors.ports import Agent, App, Deployment
from pusher.wire import LOG_LINES, LOG_LINES_MOST, Code, Event, Problem, Refused, Route


class Handlers:
    """The handlers of all routes. Raises: Problem, from every one, for what the request cannot have."""

    def __init__(self, agent: Agent, *, uploads: Uploads, streams: Streams, metrics: Metrics) -> None:
        self._agent = agent
        self._uploads = uploads
        self._streams = streams
        self._metrics = metrics

    async def healthz(self, request: Request) -> web.StreamResponse:
        """Whether the agent is up. Anybody may ask, so it says nothing else."""
        return json_response({"status": "ok"})

    async def page(self, request: Request) -> web.StreamResponse:
        """The page that a browser shows."""
        return await start_page()

    async def page_file(self, request: Request) -> web.StreamResponse:
        """A script or a style of the page."""
        return await page_file(request.names["file"])

    async def apps(self, request: Request) -> web.StreamResponse:
        """The apps of this host, and what is wrong with those that cannot be used."""
        found = [{"app": name, "problem": _problem(app)} for name, app in sorted(self._agent.apps.items())]
        return json_response({"host": self._agent.host, "apps": found})

    async def health(self, request: Request) -> web.StreamResponse:
        """What the app answers to its health check, asked now."""
        return json_response(await self._app(request).status.health())

    async def openapi(self, request: Request) -> web.StreamResponse:
        """The description of this door in the form of OpenAPI 3.1."""
        openapi = await asyncio.to_thread(importlib.import_module, "agent.doors.http.openapi")
        return text_response(await asyncio.to_thread(openapi.description), "application/json")

    async def metrics(self, request: Request) -> web.StreamResponse:
        """The metrics of the agent and its apps, in the text format of Prometheus."""
        return text_response(*await request.connection.while_open(self._metrics.scrape()))

    async def status(self, request: Request) -> web.StreamResponse:
        """What is live, and what is under way."""
        app = self._app(request)
        channel = self._agent.channels.get(app.name)
        own = {"channel": channel.summary()} if channel else {}
        notices = {"notices": found} if (found := await self._agent.notices.summary()) else {}
        return json_response({**await app.status.summary(), **own, **notices})

    async def test_notices(self, request: Request) -> web.StreamResponse:
        """Send a test by each way that [notify] names; how that went."""
        found = await self._agent.notices.test()
        if not found:
            raise Refused(
                Code.CONFIGURATION,
                "This host tells nobody how deployments end",
                why="[notify] in agent.toml has no `url`, `url_file` or `email`",
                hint="Add one, and restart the agent: systemctl restart pusher-agent",
            )
        return json_response({"ways": found})

    async def releases(self, request: Request) -> web.StreamResponse:
        """The releases on the host, and its recent deployments."""
        return json_response(await self._app(request).status.releases())

    async def logs(self, request: Request) -> web.StreamResponse:
        """The app's own log, one entry a line. With `follow` also what is written later, until the reader goes."""
        status = self._app(request).status
        lines, unit, follow = (request.query.get(name, "") for name in ("lines", "unit", "follow"))
        if lines and not (re.fullmatch(r"[0-9]{1,5}", lines, re.ASCII) and int(lines) <= LOG_LINES_MOST):
            hint = f"Give a number from 0 to {LOG_LINES_MOST}; the default is {LOG_LINES}"
            raise bad_parameter("lines", lines, hint)
        if unit not in ("", *status.log_units):
            raise bad_parameter("unit", unit, nearest(printable(unit), sorted(status.log_units)))
        if follow not in ("", "0", "1"):
            raise bad_parameter("follow", follow, "Give 1, or leave it out")
        found = status.log(lines=int(lines or LOG_LINES), follow=follow == "1", unit=unit)
        return await self._streams.send_log(request, found)

    async def index(self, request: Request) -> web.StreamResponse:
        """The signed index of a release. Its content, one file or link a line."""
        pieces = await self._app(request).status.index(request.query.get("release", ""))
        return await self._streams.send(request, pieces, encode=bytes)

    async def sbom(self, request: Request) -> web.StreamResponse:
        """What was installed for a release."""
        found = await self._app(request).status.sbom(request.query.get("release", ""))
        return json_response(found, headers={"Content-Type": "application/vnd.cyclonedx+json"})

    async def missing(self, request: Request) -> web.StreamResponse:
        """Which files a bundle with this manifest and index must bring."""
        deployer = self._app(request).deployer
        async with self._uploads.receive(request) as upload:
            digests = await deployer.missing(upload.bundle)
            await upload.drain()
        return json_response({"missing": digests})

    async def deploy(self, request: Request) -> web.StreamResponse:
        """Receive a bundle and make it live."""
        deployer = self._app(request).deployer
        async with self._uploads.receive(request) as upload:
            begun = await deployer.submit(Send(upload.bundle, request.by))
            await begun.consumed()
            if begun.summary()["outcome"] in (None, "done"):
                await upload.drain()
        return await _outcome(request, begun)

    async def rollback(self, request: Request) -> web.StreamResponse:
        """Make an older release live again."""
        deployer, given = self._app(request).deployer, request.query
        begun = await deployer.submit(Rollback(request.by, to=given.get("to"), leaving=given.get("from")))
        return await _outcome(request, begun)

    async def cancel(self, request: Request) -> web.StreamResponse:
        """End the deployment under way, if nothing of it is live yet."""
        deployer = self._app(request).deployer
        begun = deployer.cancel(by=request.by, deployment=request.query.get("deployment", ""))
        return json_response({"deployment": begun.id, "app": begun.app}, status=202)

    async def pin(self, request: Request) -> web.StreamResponse:
        """Keep a release from retention."""
        return await self._pin(request, pinned=True)

    async def unpin(self, request: Request) -> web.StreamResponse:
        """Let retention remove a release again."""
        return await self._pin(request, pinned=False)

    async def command(self, request: Request) -> web.StreamResponse:
        """Record a command of `pusher-agent app run`. That it begins, or with `code`, that it has ended."""
        deployer, given = self._app(request).deployer, request.query
        run, code = given.get("run", ""), given.get("code")
        if not re.fullmatch(r"[0-9a-z-]{1,40}", run, re.ASCII):
            raise bad_parameter("run", run, "Give it a name of small letters, digits and dashes")
        if code is None:
            facts = {name: given.get(name, "") for name in ("by", "release", "command")}
            await deployer.command_began(run, **facts)
        elif re.fullmatch(r"[0-9]{1,3}", code, re.ASCII):
            await deployer.command_ended(run, code=int(code))
        else:
            raise bad_parameter("code", code, "Give an exit code")
        return json_response({"run": run})

    async def drop(self, request: Request) -> web.StreamResponse:
        """The results of a drop, as they change. One line each time, until it is settled."""
        app = self._app(request).name
        directory = self._agent.drops.get(app)
        if directory is None:
            hint = f"As root: pusher-agent app apply {app}"
            raise Refused(Code.CONFIGURATION, f"{app} has no drop directory", hint=hint)
        manifest = request.names["manifest"]
        if not re.fullmatch(r"[0-9a-f]{64}", manifest, re.ASCII):
            hint = "Give the SHA-256 of the manifest's file, as sha256sum writes it"
            raise bad_parameter("manifest", manifest, hint)
        await directory.scan()
        return await self._streams.send(request, directory.results(manifest), encode=Event.to_line)

    async def deployment(self, request: Request) -> web.StreamResponse:
        """The facts of a deployment, and its outcome if it has ended."""
        found = await self._deployment(request)
        app = self._agent.apps[found.app]
        history = {} if isinstance(app, Refused) else {"history": await app.status.history()}
        return json_response({**found.summary(), **found.course(), **history})

    async def history(self, request: Request) -> web.StreamResponse:
        """The records of the app's history. Those after the one of this number, one a line."""
        after = _after(request, hint="Give the number of the last record you have, or 0")
        found = self._app(request).status.records(after=after)
        return await self._streams.send(request, found, encode=_line)

    async def events(self, request: Request) -> web.StreamResponse:
        """The events of a deployment, as they happen. Those above `after`, one a line, until it has finished."""
        found = await self._deployment(request)
        after = _after(request, hint="Give the seq of the last event you have, or 0")
        return await self._streams.send(request, found.events(after=after), encode=Event.to_line)

    async def _pin(self, request: Request, *, pinned: bool) -> web.StreamResponse:
        deployer = self._app(request).deployer
        release = request.query.get("release", "")
        if not release:
            raise Refused(
                Code.BAD_REQUEST,
                "The request does not say which release",
                hint="Add ?release=ID; /releases lists them",
            )
        await deployer.pin(release, pinned=pinned, by=request.by)
        return json_response({"release": release, "pinned": pinned})

    def _app(self, request: Request) -> App:
        """The app that the path names, or the only one.

        Raises: Refused(unknown_app, several_apps), and what is wrong with its configuration.
        """
        apps, name = self._agent.apps, request.names.get("app")
        known = ", ".join(sorted(apps))
        if name is None and len(apps) > 1:
            example = request.http.path.removeprefix("/")
            raise Refused(
                Code.SEVERAL_APPS,
                "This host has several apps",
                why=f"they are {known}",
                hint=f"Name one: /apps/{min(apps)}/{example}, or with `pusher`: --app {min(apps)}",
            )
        if not apps:
            hint = "Set one up: pusher-agent app add NAME"
            raise Refused(Code.UNKNOWN_APP, "This host has no app yet", hint=hint)
        if name is None:
            name = min(apps)
        if name not in apps:
            hint = f"Available: {known}. To set up another one, as root there: pusher-agent app add NAME"
            raise Refused(Code.UNKNOWN_APP, f"This host has no app {printable(name)}", hint=hint)
        app = apps[name]
        if isinstance(app, Refused):
            raise app.with_traceback(None)  # it is raised for each request
        return app

    async def _deployment(self, request: Request) -> Deployment:
        """The deployment that the path names. Raises: Refused(unknown_deployment)."""
        name = request.names["deployment"]
        found = await self._agent.deployment(name)
        if found is None:
            raise Refused(
                Code.UNKNOWN_DEPLOYMENT,
                f"This host knows no deployment {printable(name)}",
                hint="`pusher releases` lists the recent ones",
            )
        return found


Handler = Callable[[Handlers, Request], Awaitable[web.StreamResponse]]
"""What a route does: a method of `Handlers`."""


def _problem(app: App | Refused) -> dict[str, Any] | None:
    return app.to_document() if isinstance(app, Refused) else None


def _after(request: Request, *, hint: str) -> int:
    """The number that `after` gives; 0 if it is left out. Raises: Refused(bad_request)."""
    after = request.query.get("after", "0")
    if not re.fullmatch(r"[0-9]{1,9}", after, re.ASCII):
        raise bad_parameter("after", after, hint)
    return int(after)


def _line(record: bytes) -> bytes:
    return record + b"\n"


async def _outcome(request: Request, begun: Deployment) -> web.StreamResponse:
    """How a deployment ended. With `Prefer: respond-async` only that it has begun, unless it has failed
    already."""
    path = Route.DEPLOYMENT.format(deployment=begun.id)
    if _prefers_async(request.http) and begun.summary()["outcome"] in (None, "done"):
        return json_response(
            {"deployment": begun.id, "app": begun.app},
            status=202,
            headers={"Location": path, "Preference-Applied": "respond-async"},
        )
    last = await request.connection.while_open(begun.finished())
    if last.data["outcome"] == "done":
        return json_response(last.data)
    return problem_response(Problem.from_document(last.data["problem"]), instance=path)


def _prefers_async(request: web.BaseRequest) -> bool:
    """Whether `respond-async` is among the preferences (RFC 7240, sections 2 and 4.1)."""
    preferences = ",".join(request.headers.getall("Prefer", [])).split(",")
    return any(one.partition(";")[0].strip().lower() == "respond-async" for one in preferences)
