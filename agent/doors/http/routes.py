"""The routes of the door: one literal table, with who may as a column."""

import re
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import NamedTuple

from aiohttp import web

from agent.doors.http import handlers
from agent.doors.http.guards import nearest, printable
from agent.doors.http.requests import Call, Desk
from pusher.wire import Route

Answer = Callable[[Desk, Call], Awaitable[web.StreamResponse]]


class Policy(StrEnum):
    """Who may: anybody who can connect, or those `agent.host.net.peer.may_deploy` lets."""

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
    Row("GET", Route.HEALTHZ, ANYONE, (), handlers.healthz),
    Row("HEAD", Route.HEALTHZ, ANYONE, (), handlers.healthz),  # what balancers and monitors ask, without the body
    Row("GET", Route.STATUS, OPERATOR, (), handlers.status),
    Row("HEAD", Route.STATUS, OPERATOR, (), handlers.status),
    Row("GET", Route.RELEASES, OPERATOR, (), handlers.releases),
    Row("GET", Route.LOGS, OPERATOR, ("lines", "follow", "unit"), handlers.logs),
    Row("POST", Route.ROLLBACK, OPERATOR, ("to", "from"), handlers.rollback),
    Row("GET", Route.APP_STATUS, OPERATOR, (), handlers.status),
    Row("HEAD", Route.APP_STATUS, OPERATOR, (), handlers.status),
    Row("GET", Route.APP_RELEASES, OPERATOR, (), handlers.releases),
    Row("GET", Route.APP_LOGS, OPERATOR, ("lines", "follow", "unit"), handlers.logs),
    Row("GET", Route.APP_INDEX, OPERATOR, ("release",), handlers.index),
    Row("POST", Route.APP_MISSING, OPERATOR, (), handlers.missing),
    Row("POST", Route.APP_DEPLOYMENTS, OPERATOR, (), handlers.deploy),
    Row("POST", Route.APP_ROLLBACK, OPERATOR, ("to", "from"), handlers.rollback),
    Row("POST", Route.APP_PIN, OPERATOR, ("release",), handlers.pin),
    Row("DELETE", Route.APP_PIN, OPERATOR, ("release",), handlers.unpin),
    Row("GET", Route.APP_DROP, OPERATOR, (), handlers.landing),
    Row("GET", Route.DEPLOYMENT, OPERATOR, (), handlers.deployment),
    Row("GET", Route.DEPLOYMENT_EVENTS, OPERATOR, ("after",), handlers.events),
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
