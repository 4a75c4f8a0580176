"""A request whose guards are passed, and what of this host it names.

Invariant: a name of nothing here is refused with those there are.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from agent.core.config import BundleLimits
from agent.doors.http.connections import Connection
from agent.doors.http.guards import printable
from agent.doors.ports import Agent, App, Deployment
from pusher.wire import Code, Refused

_SILENCE_S = 15.0
_UNREAD_S = 60.0


@dataclass(frozen=True, slots=True)
class Desk:
    """What the answers are made from. `stop` is set when the agent begins to stop. `uploads` are those under way.

    A stream of events brings an empty line every `silence_s`; its reader may leave it unread for `unread_s`.
    """

    agent: Agent
    limits: BundleLimits
    stop: asyncio.Event
    uploads: Counter[str] = field(default_factory=Counter)
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


def app_of(desk: Desk, call: Call) -> App:
    """The app that the path names, or the only one.

    Raises: Refused(unknown_app, several_apps), and what is wrong with its configuration.
    """
    apps, name = desk.agent.apps, call.names.get("app")
    known = ", ".join(sorted(apps))
    if name is None and len(apps) > 1:
        example = call.request.path.removeprefix("/")
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
        hint = f"There is {known}"
        raise Refused(Code.UNKNOWN_APP, f"This host has no app {printable(name)}", hint=hint)
    app = apps[name]
    if isinstance(app, Refused):
        raise app.with_traceback(None)  # it is raised for each request
    return app


async def deployment_of(desk: Desk, call: Call) -> Deployment:
    """The one that the path names. Raises: Refused(unknown_deployment)."""
    name = call.names["deployment"]
    found = await desk.agent.deployment(name)
    if found is None:
        raise Refused(
            Code.UNKNOWN_DEPLOYMENT,
            f"This host knows no deployment {printable(name)}",
            hint="`pusher releases` lists the recent ones",
        )
    return found


def unusable(name: str, value: str, hint: str) -> Refused:
    """What a request with such a parameter is refused with."""
    return Refused(Code.BAD_REQUEST, f"The request's {name}={printable(value)} cannot be used", hint=hint)
