"""What the page may ask: one literal table, and what each row does.

Invariant: what goes to a host is a method of its client with checked arguments, never a path that a browser sent.
What changes something needs the version that the person typed, and compares it with what the host says.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote

from pusher.dashboard.connections import Connections
from pusher.dashboard.watch import Watch
from pusher.transport.client import Client
from pusher.wire import LOG_LINES, LOG_LINES_MOST, Code, Event, LogLine, Problem, Refused, canonical

_T = TypeVar("_T")
_NEWS_S = 10.0
_NUMBER_MOST = 999_999_999


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was judged: the names in its path, its parameters, and the members of its body."""

    names: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def number(self, name: str, default: int, *, most: int = _NUMBER_MOST) -> int:
        """A whole number among the parameters. Raises: Refused(bad_request)."""
        text = self.query.get(name, str(default))
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= most):
            raise _bad(f"The request's {name} is no number up to {most}")
        return int(text)

    def text(self, name: str) -> str:
        """A text in the body. Raises: Refused(bad_request)."""
        value = self.body.get(name)
        if not isinstance(value, str) or len(value) > 200:
            raise _bad(f"The request's {name} is missing, or is no text")
        return value

    @property
    def place(self) -> int:
        """Which host. Raises: Refused(bad_request)."""
        text = self.names["host"]
        if not (text.isascii() and text.isdecimal() and len(text) < 6):
            raise _bad("The request names no host")
        return int(text)


class Routes:
    """The rows of the table, for these hosts. `fleet` reads a fleet, where one is shown. `confirm` is the name of
    an environment that wants to be confirmed: it is typed before the version."""

    def __init__(
        self,
        connections: Connections,
        watch: Watch,
        *,
        fleet: Callable[[], dict[str, Any]] | None = None,
        confirm: str = "",
    ) -> None:
        self._connections = connections
        self._watch = watch
        self._fleet = fleet
        self._confirm = confirm

    def all_hosts(self, asked: Asked) -> dict[str, Any]:
        """All hosts, as soon as there is something new."""
        after = asked.number("after", 0)
        return {
            **self._watch.news(after=after, within_s=_NEWS_S),
            "fleet": self._fleet is not None,
            "confirm": self._confirm,
        }

    def fleet(self, asked: Asked) -> dict[str, Any]:
        """The fleet of a repository."""
        if self._fleet is None:
            raise _bad("No fleet is shown here")
        return self._fleet()

    def apps(self, asked: Asked) -> dict[str, Any]:
        """The apps of a host."""
        with self._connections.borrow(asked.place) as client:
            return client.apps()

    def status(self, asked: Asked) -> dict[str, Any]:
        """The status of an app."""
        with self._connections.borrow(asked.place) as client:
            return client.status(asked.names["app"])

    def health(self, asked: Asked) -> dict[str, Any]:
        """What an app answers now."""
        with self._connections.borrow(asked.place) as client:
            return client.health(asked.names["app"])

    def releases(self, asked: Asked) -> dict[str, Any]:
        """The releases of an app."""
        with self._connections.borrow(asked.place) as client:
            return client.releases(asked.names["app"])

    def history(self, asked: Asked) -> Iterator[bytes]:
        """The records of an app's history."""
        place, app, after = self._place(asked), asked.names["app"], asked.number("after", 0)
        return self._lines(place, lambda client: client.records(app, after=after), lambda line: line + b"\n")

    def events(self, asked: Asked) -> Iterator[bytes]:
        """The events of a deployment, as they happen."""
        place, deployment, after = self._place(asked), asked.names["deployment"], asked.number("after", 0)
        return self._lines(place, lambda client: client.events(deployment, after=after), Event.to_line)

    def logs(self, asked: Asked) -> Iterator[bytes]:
        """The log of an app, as it is written."""
        place, app, unit = self._place(asked), asked.names["app"], asked.query.get("unit", "")
        lines, follow = asked.number("lines", LOG_LINES, most=LOG_LINES_MOST), asked.query.get("follow") == "1"
        return self._lines(
            place, lambda client: client.logs(app, lines=lines, follow=follow, unit=unit), LogLine.to_line
        )

    def rollback(self, asked: Asked) -> dict[str, Any]:
        """Make the release live again whose version was typed; only if what the person saw live still is."""
        app, release, leaving = asked.names["app"], asked.text("release"), asked.text("leaving")
        self._check_typed(asked, release)
        with self._connections.borrow(asked.place) as client:
            return {"deployment": client.rollback(app, to=release, leaving=leaving)}

    def pin(self, asked: Asked) -> dict[str, Any]:
        """Keep the release whose version was typed, or no longer."""
        app, release, pinned = asked.names["app"], asked.text("release"), asked.body.get("pinned")
        if not isinstance(pinned, bool):
            raise _bad("The request does not say whether to pin")
        self._check_typed(asked, release)
        with self._connections.borrow(asked.place) as client:
            (client.pin if pinned else client.unpin)(app, release)
        return {"release": release, "pinned": pinned}

    def _place(self, asked: Asked) -> int:
        """Which host, known before an answer begins. Raises: Refused(bad_request)."""
        if asked.place >= len(self._connections.hosts):
            raise _bad(f"There is no host {asked.place} here")
        return asked.place

    def _lines(
        self, place: int, ask: Callable[[Client], Iterator[_T | None]], encode: Callable[[_T], bytes]
    ) -> Iterator[bytes]:
        """Each thing that a host says, as a line; an empty one where it only shows that it is alive."""
        with self._connections.borrow(place) as client:
            for one in ask(client):
                yield b"\n" if one is None else encode(one)

    def _check_typed(self, asked: Asked, release: str) -> None:
        """Refuse a change without the version of the release, as the host has it. Raises: Refused; Problem."""
        typed, found = asked.text("typed"), self.releases(asked).get("releases")
        known = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        version = next((one.get("version") for one in known if one.get("id") == release), None)
        if version is None:
            raise Refused(Code.UNKNOWN_RELEASE, f"{asked.names['app']} has no release {release:.80} there")
        wanted = f"{self._confirm} {version}".strip()
        if typed != wanted:
            hint = f"Type {wanted} to confirm"
            raise Refused(Code.BAD_REQUEST, "What was typed is not the version of the release", hint=hint)


class Row(NamedTuple):
    """One row: what the page asks, with which parameters, and what answers."""

    method: str
    path: str
    parameters: tuple[str, ...]
    action: Callable[[Routes, Asked], dict[str, Any] | Iterator[bytes]]


ROUTES = (
    Row("GET", "/all", ("after",), Routes.all_hosts),
    Row("GET", "/fleet", (), Routes.fleet),
    Row("GET", "/hosts/{host}/apps", (), Routes.apps),
    Row("GET", "/hosts/{host}/apps/{app}/status", (), Routes.status),
    Row("GET", "/hosts/{host}/apps/{app}/health", (), Routes.health),
    Row("GET", "/hosts/{host}/apps/{app}/releases", (), Routes.releases),
    Row("GET", "/hosts/{host}/apps/{app}/history", ("after",), Routes.history),
    Row("GET", "/hosts/{host}/apps/{app}/logs", ("lines", "follow", "unit"), Routes.logs),
    Row("GET", "/hosts/{host}/deployments/{deployment}/events", ("after",), Routes.events),
    Row("POST", "/hosts/{host}/apps/{app}/rollback", (), Routes.rollback),
    Row("POST", "/hosts/{host}/apps/{app}/pin", (), Routes.pin),
)


def find(method: str, target: str) -> tuple[Row, Asked]:
    """The row for a request, and what it asks. Raises: Refused(bad_request)."""
    path, _, query = target.partition("?")
    for row in ROUTES:
        if row.method == method and (names := _names(row.path, path)) is not None:
            return row, Asked(names, parameters(query, known=row.parameters))
    raise _bad("There is no such thing here")


def parameters(query: str, *, known: tuple[str, ...]) -> dict[str, str]:
    """The parameters of a query, each known and given once. Raises: Refused(bad_request)."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=8)
    except ValueError as error:
        raise _bad("The request has too many parameters") from error
    found = dict(pairs)
    if len(found) != len(pairs) or not found.keys() <= {*known}:
        raise _bad("The request has a parameter twice, or one that is not known here")
    return found


def problem_line(problem: Problem) -> bytes:
    """The last line of a stream that could not be read to its end."""
    return canonical({"problem": problem.to_document()}) + b"\n"


def _names(template: str, path: str) -> dict[str, str] | None:
    """The names in a path that has the form of the template; None if it has not."""
    wanted, given = template.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    found = {}
    for want, give in zip(wanted, given, strict=True):
        if want.startswith("{") and give:
            found[want.strip("{}")] = unquote(give)
        elif want != give:
            return None
    return found


def _bad(what: str) -> Refused:
    return Refused(Code.BAD_REQUEST, what)
