"""The routes of the door: one literal table, with a column for who may use each."""

import re
from enum import StrEnum
from typing import NamedTuple

from agent.doors.http.guards import nearest, printable
from agent.doors.http.handlers import Handler, Handlers
from pusher.wire import Route


class Policy(StrEnum):
    """Who may use a route: anybody who can connect; those whom `agent.host.net.peer.may_deploy` admits; these and
    the users that `metrics_users` in agent.toml names; or only those who could write the journal themselves: root,
    and the user of the agent."""

    ANYONE = "anyone"
    WATCHER = "watcher"
    OPERATOR = "operator"
    ROOT = "root"


ANYONE, WATCHER, OPERATOR, ROOT = Policy.ANYONE, Policy.WATCHER, Policy.OPERATOR, Policy.ROOT


class Row(NamedTuple):
    """One route. `parameters` are all that its query may have."""

    method: str
    path: Route
    policy: Policy
    parameters: tuple[str, ...]
    handler: Handler


ROUTES = (
    Row("GET", Route.HEALTHZ, ANYONE, (), Handlers.healthz),
    Row("HEAD", Route.HEALTHZ, ANYONE, (), Handlers.healthz),  # load balancers and monitors ask without the body
    Row("GET", Route.PAGE, OPERATOR, (), Handlers.page),
    Row("GET", Route.PAGE_FILE, OPERATOR, (), Handlers.page_file),
    Row("GET", Route.APPS, OPERATOR, (), Handlers.apps),
    Row("GET", Route.METRICS, WATCHER, (), Handlers.metrics),
    Row("GET", Route.OPENAPI, ANYONE, (), Handlers.openapi),
    Row("GET", Route.STATUS, OPERATOR, (), Handlers.status),
    Row("HEAD", Route.STATUS, OPERATOR, (), Handlers.status),
    Row("POST", Route.NOTICES_TEST, OPERATOR, (), Handlers.test_notices),
    Row("GET", Route.RELEASES, OPERATOR, (), Handlers.releases),
    Row("GET", Route.LOGS, OPERATOR, ("lines", "follow", "unit"), Handlers.logs),
    Row("POST", Route.ROLLBACK, OPERATOR, ("to", "from"), Handlers.rollback),
    Row("POST", Route.CANCEL, OPERATOR, ("deployment",), Handlers.cancel),
    Row("GET", Route.APP_STATUS, OPERATOR, (), Handlers.status),
    Row("HEAD", Route.APP_STATUS, OPERATOR, (), Handlers.status),
    Row("GET", Route.APP_HEALTH, OPERATOR, (), Handlers.health),
    Row("GET", Route.APP_RELEASES, OPERATOR, (), Handlers.releases),
    Row("GET", Route.APP_LOGS, OPERATOR, ("lines", "follow", "unit"), Handlers.logs),
    Row("GET", Route.APP_INDEX, OPERATOR, ("release",), Handlers.index),
    Row("GET", Route.APP_SBOM, OPERATOR, ("release",), Handlers.sbom),
    Row("GET", Route.APP_HISTORY, OPERATOR, ("after",), Handlers.history),
    Row("POST", Route.APP_MISSING, OPERATOR, (), Handlers.missing),
    Row("POST", Route.APP_DEPLOYMENTS, OPERATOR, (), Handlers.deploy),
    Row("POST", Route.APP_ROLLBACK, OPERATOR, ("to", "from"), Handlers.rollback),
    Row("POST", Route.APP_CANCEL, OPERATOR, ("deployment",), Handlers.cancel),
    Row("POST", Route.APP_PIN, OPERATOR, ("release",), Handlers.pin),
    Row("DELETE", Route.APP_PIN, OPERATOR, ("release",), Handlers.unpin),
    Row("POST", Route.APP_COMMANDS, ROOT, ("run", "by", "release", "command", "code"), Handlers.command),
    Row("GET", Route.APP_DROP, OPERATOR, (), Handlers.drop),
    Row("GET", Route.DEPLOYMENT, OPERATOR, (), Handlers.deployment),
    Row("GET", Route.DEPLOYMENT_EVENTS, OPERATOR, ("after",), Handlers.events),
)


class Match(NamedTuple):
    """A row, and the names in the places of its path."""

    row: Row
    names: dict[str, str]


def find(method: str, path: str) -> Match | tuple[str, ...]:
    """The row for a request. Its path counts as it was sent: nothing is decoded, joined or normalised.

    Without a row: the methods that the path has, none if there is no such path.
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
    """The hint for a path that does not exist."""
    return nearest(printable(path), sorted({str(row.path) for row in ROUTES}))


def _pattern(path: Route) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[A-Za-z0-9._-]+)", path), re.ASCII)


_PATTERNS = tuple((row, _pattern(row.path)) for row in ROUTES)
