"""The description of the door in the form of OpenAPI 3.1, made from the table of routes and the models.

Invariant: every route of the table stands in it, with the summary of its handler, its policy, its parameters and
all that it can respond. Imported only when somebody asks for it.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from agent.doors.http.documents.app import Answered, Command, LogLine, Status
from agent.doors.http.documents.deployment import Begun, Deployment, Event, Finished
from agent.doors.http.documents.document import Problem
from agent.doors.http.documents.history import Record
from agent.doors.http.documents.host import Api, Apps, Health
from agent.doors.http.documents.notices import Tested
from agent.doors.http.documents.release import Bom, Entry, Missing, Pinned, Releases
from agent.doors.http.handlers import Handler, Handlers
from agent.doors.http.routes import ROUTES, Row
from pusher.wire import BUNDLE_TYPE, EVENTS_TYPE, LOG_LINES, LOG_LINES_MOST, PROBLEM_TYPE, Route, canonical
from pusher.wire.page import AGENT_FILES

_JSON = "application/json"
_PREFIX = "#/components/schemas/"


class Response(NamedTuple):
    """A response: its content type, the model of the document or of one line, and what it is."""

    kind: str
    model: type[BaseModel] | None
    says: str


_BEGUN = Response(_JSON, Begun, "It is under way (with `Prefer: respond-async`)")
_ENDED = {200: Response(_JSON, Finished, "It is live"), 202: _BEGUN}

RESPONSES: Mapping[Handler, Mapping[int, Response]] = {
    Handlers.healthz: {200: Response(_JSON, Health, "The agent is up")},
    Handlers.openapi: {200: Response(_JSON, Api, "This description")},
    Handlers.page: {200: Response("text/html", None, "The page")},
    Handlers.page_file: {200: Response("*/*", None, "The file")},
    Handlers.apps: {200: Response(_JSON, Apps, "The apps")},
    Handlers.health: {200: Response(_JSON, Answered, "What the app answers")},
    Handlers.metrics: {200: Response("text/plain", None, "The metrics")},
    Handlers.status: {200: Response(_JSON, Status, "The app's status")},
    Handlers.test_notices: {200: Response(_JSON, Tested, "How the tests went")},
    Handlers.releases: {200: Response(_JSON, Releases, "The releases and deployments")},
    Handlers.logs: {200: Response(EVENTS_TYPE, LogLine, "The log, one message a line")},
    Handlers.index: {200: Response(EVENTS_TYPE, Entry, "The index, one file or link a line")},
    Handlers.sbom: {200: Response("application/vnd.cyclonedx+json", Bom, "The bill of materials")},
    Handlers.history: {200: Response(EVENTS_TYPE, Record, "The records, one a line")},
    Handlers.missing: {200: Response(_JSON, Missing, "The digests of the files that the host lacks")},
    Handlers.deploy: _ENDED,
    Handlers.rollback: _ENDED,
    Handlers.cancel: {202: Response(_JSON, Begun, "The deployment is being taken back")},
    Handlers.pin: {200: Response(_JSON, Pinned, "The release is protected")},
    Handlers.unpin: {200: Response(_JSON, Pinned, "The release is protected no longer")},
    Handlers.command: {200: Response(_JSON, Command, "It is recorded")},
    Handlers.drop: {200: Response(EVENTS_TYPE, Event, "What becomes of the drop, one event a line")},
    Handlers.deployment: {200: Response(_JSON, Deployment, "The deployment")},
    Handlers.events: {200: Response(EVENTS_TYPE, Event, "The events, one a line")},
}
"""The responses of each handler when it does what was asked."""

_WORD = {"type": "string", "minLength": 1}
_COUNT = {"type": "string", "pattern": "^[0-9]{1,9}$", "default": "0"}
_PARAMETERS: Mapping[str, tuple[dict[str, Any], str]] = {
    "lines": (
        {"type": "integer", "minimum": 0, "maximum": LOG_LINES_MOST, "default": LOG_LINES},
        "How many of the last lines",
    ),
    "follow": ({"type": "string", "enum": ["0", "1"], "default": "0"}, "1: go on with new lines, without an end"),
    "unit": (_WORD, "Only the lines of this unit"),
    "release": (_WORD, "The id of a release"),
    "after": (_COUNT, "Only what comes after this number"),
    "to": (_WORD, "The release to go to: its id, or the version of one release"),
    "from": (_WORD, "Only if this release is still live"),
    "deployment": (_WORD, "Only if it is this one"),
    "run": ({"type": "string", "pattern": "^[0-9a-z-]{1,40}$"}, "A name for this run"),
    "by": (_WORD, "Who runs it"),
    "command": (_WORD, "What is run"),
    "code": ({"type": "string", "pattern": "^[0-9]{1,3}$"}, "Its exit code: it has ended"),
}
_REQUIRED: Mapping[Handler, frozenset[str]] = {
    Handlers.pin: frozenset({"release"}),
    Handlers.unpin: frozenset({"release"}),
    Handlers.command: frozenset({"run"}),
}
_NAMES: Mapping[str, tuple[dict[str, Any], str]] = {
    "app": ({"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}, "The name of an app"),
    "deployment": ({"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}, "The id of a deployment"),
    "manifest": ({"type": "string", "pattern": "^[0-9a-f]{64}$"}, "The SHA-256 of a drop's manifest"),
    "file": ({"type": "string", "enum": sorted(AGENT_FILES)}, "The name of a file"),
}
_UPLOADS = (Handlers.missing, Handlers.deploy)
_WAITING = (Handlers.deploy, Handlers.rollback)


@cache
def description() -> bytes:
    """The description as JSON, the same for every agent of this version."""
    return canonical(document()) + b"\n"


def document() -> dict[str, Any]:
    """The description."""
    paths: dict[str, dict[str, Any]] = {}
    for row in ROUTES:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "The HTTP door of pusher-agent",
            "version": "1",
            "summary": "Deploys signed releases of the apps of this host",
            "description": "Who asks is what the kernel says of the other end of the connection: there are no "
            "tokens. `x-policy` says who may use a route. An unknown parameter is refused.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": _schemas()},
    }


def summary(row: Row) -> str:
    """What a route does, in one sentence: that of its handler."""
    return (row.handler.__doc__ or "").partition("\n")[0].partition(". ")[0].removesuffix(".")


def _operation(row: Row) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _id(row),
        "summary": summary(row),
        "x-policy": row.policy.value,
        "parameters": [*_path_parameters(row.path), *_query_parameters(row)],
        "responses": _responses(row),
    }
    if row.handler in _UPLOADS:
        binary = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
        operation["requestBody"] = {
            "description": "A bundle (docs/reference/bundle-format.md)",
            "required": True,
            "content": {BUNDLE_TYPE: binary},
        }
    if row.handler in _WAITING:
        says = "`respond-async`: respond as soon as it is under way (RFC 7240)"
        operation["parameters"].append(
            {"name": "Prefer", "in": "header", "description": says, "schema": {"type": "string"}}
        )
    return operation


def _id(row: Row) -> str:
    """A name for the operation, for those who make clients: of the short forms and HEAD, one of their own."""
    short = "{app}" not in row.path and f"/apps/{{app}}{row.path}" in set(Route)
    return "_".join(
        filter(None, ("head" if row.method == "HEAD" else "", row.handler.__name__, "only" if short else ""))
    )


def _path_parameters(path: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "description": says, "schema": schema}
        for name, (schema, says) in _NAMES.items()
        if f"{{{name}}}" in path
    ]


def _query_parameters(row: Row) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": name in _REQUIRED.get(row.handler, ()),
            "description": _PARAMETERS[name][1],
            "schema": _PARAMETERS[name][0],
        }
        for name in row.parameters
    ]


def _responses(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, response in RESPONSES[row.handler].items():
        found[str(status)] = {"description": response.says}
        if row.method != "HEAD":
            found[str(status)]["content"] = {response.kind: {"schema": _schema(response)}}
    refused: dict[str, Any] = {}
    if row.method != "HEAD":
        refused = {"content": {PROBLEM_TYPE: {"schema": {"$ref": f"{_PREFIX}Problem"}}}}
    found["4XX"] = {"description": "It was refused, or the release is bad", **refused}
    found["5XX"] = {"description": "This host has a fault", **refused}
    return found


def _schema(response: Response) -> dict[str, Any]:
    if response.model is None:
        return {"type": "string"}
    reference = {"$ref": f"{_PREFIX}{response.model.__name__}"}
    if response.kind == EVENTS_TYPE:
        return {"type": "string", "contentMediaType": EVENTS_TYPE, "contentSchema": reference}
    return reference


def _schemas() -> dict[str, Any]:
    found: dict[str, type[BaseModel]] = {"Problem": Problem}
    for responses in RESPONSES.values():
        found |= {one.model.__name__: one.model for one in responses.values() if one.model}
    wanted: list[tuple[type[BaseModel], Literal["validation"]]] = [(found[name], "validation") for name in found]
    _, made = models_json_schema(wanted, ref_template=f"{_PREFIX}{{model}}")
    schemas: dict[str, Any] = _plain(made["$defs"])
    return schemas


def _plain(schema: Any) -> Any:
    """A schema without what is for pydantic's own use: titles, defaults, and that more members are refused.

    The agent may add members, and a client must ignore them.
    """
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = {"title", "default"} if isinstance(schema.get("title"), str) else {"default"}
    kept = {key: value for key, value in schema.items() if key not in left_out}
    if kept.get("additionalProperties") is False:
        del kept["additionalProperties"]
    return {key: _plain(value) for key, value in kept.items()}
