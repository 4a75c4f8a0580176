"""A request that has passed all guards."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from agent.doors.http.connections import Connection
from agent.doors.http.guards import printable
from pusher.wire import Code, Refused


@dataclass(frozen=True, slots=True)
class Request:
    """A request: who makes it (for people), the names in its path, and its parameters. `http` is aiohttp's own."""

    http: web.BaseRequest
    connection: Connection
    by: str
    names: Mapping[str, str]
    query: Mapping[str, str]


def bad_parameter(name: str, value: str, hint: str) -> Refused:
    """The refusal of a parameter with a value that cannot be used."""
    return Refused(Code.BAD_REQUEST, f"The request's {name}={printable(value)} cannot be used", hint=hint)
