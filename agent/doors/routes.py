"""The routes of the door: one literal table, with who may as a column."""

import re
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import NamedTuple

from aiohttp import web

from agent.doors import desk
from agent.doors.calls import Call, Desk
from agent.doors.guards import nearest, printable
from pusher.wire import Route

Answer = Callable[[Desk, Call], Awaitable[web.StreamResponse]]


class Policy(StrEnum):
    """Who may: anybody who can connect, or those `agent.host.caller.may_deploy` lets."""

    ANYONE = "anyone"
    OPERATOR = "operator"


ANYONE, OPERATOR = Policy.ANYONE, Policy.OPERATOR


class Row(NamedTuple):
    """One route: `parameters` are all that its query may have."""

    method: str
    path: Route
    policy: Policy
    parameters: tuple[str, ...]
    answer: Answer


ROUTES = (
    Row("GET", Route.HEALTHZ, ANYONE, (), desk.healthz),
    Row("HEAD", Route.HEALTHZ, ANYONE, (), desk.healthz),  # what balancers and monitors ask, without the body
    Row("GET", Route.STATUS, OPERATOR, (), desk.status),
    Row("HEAD", Route.STATUS, OPERATOR, (), desk.status),
    Row("GET", Route.RELEASES, OPERATOR, (), desk.releases),
    Row("GET", Route.LOGS, OPERATOR, ("lines", "follow", "unit"), desk.logs),
    Row("POST", Route.ROLLBACK, OPERATOR, ("to", "from"), desk.rollback),
    Row("GET", Route.APP_STATUS, OPERATOR, (), desk.status),
    Row("HEAD", Route.APP_STATUS, OPERATOR, (), desk.status),
    Row("GET", Route.APP_RELEASES, OPERATOR, (), desk.releases),
    Row("GET", Route.APP_LOGS, OPERATOR, ("lines", "follow", "unit"), desk.logs),
    Row("GET", Route.APP_INDEX, OPERATOR, ("release",), desk.index),
    Row("POST", Route.APP_MISSING, OPERATOR, (), desk.missing),
    Row("POST", Route.APP_DEPLOYMENTS, OPERATOR, (), desk.deploy),
    Row("POST", Route.APP_ROLLBACK, OPERATOR, ("to", "from"), desk.rollback),
    Row("POST", Route.APP_PIN, OPERATOR, ("release",), desk.pin),
    Row("DELETE", Route.APP_PIN, OPERATOR, ("release",), desk.unpin),
    Row("GET", Route.APP_DROP, OPERATOR, (), desk.landing),
    Row("GET", Route.DEPLOYMENT, OPERATOR, (), desk.deployment),
    Row("GET", Route.DEPLOYMENT_EVENTS, OPERATOR, ("after",), desk.events),
)


class Match(NamedTuple):
    """A row, and what stands in the places of its path."""

    row: Row
    names: dict[str, str]


def find(method: str, path: str) -> Match | tuple[str, ...]:
    """The row for a request, its path taken as it was sent: nothing is decoded, joined or normalised.

    Without one: the methods that this path does have, none for a path that leads nowhere.
    """
    methods: list[str] = []
    for row, pattern in _PATTERNS:
        match = pattern.fullmatch(path)
        if match and row.method == method:
            return Match(row, match.groupdict())
        if match:
            methods.append(row.method)
    return tuple(methods)


def nearest_path(path: str) -> str:
    """The hint for who sent a path that leads nowhere."""
    return nearest(printable(path), sorted({str(row.path) for row in ROUTES}))


def _pattern(path: Route) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[A-Za-z0-9._-]+)", path), re.ASCII)


_PATTERNS = tuple((row, _pattern(row.path)) for row in ROUTES)
