"""The agent's HTTP door, a method a route (docs/reference/http-api.md)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from pusher.transport.connection import Connection
from pusher.transport.hosts import Host
from pusher.wire import BUNDLE_TYPE, Entry, Event, LogLine, Route, WireError, parse_index_line

_T = TypeVar("_T")
# RFC 7240: the answer comes when the agent has it all, not when the deployment is over.
_ASYNC = {"Prefer": "respond-async"}


class Client:
    """Speaks with the agent of one host. Not for two threads at once, but for `abandon`; `close` it.

    Every request raises `Problem`: the agent's own, or `Unreachable`. Where `app` is empty, the host's
    only app is meant. `may_ask`: ssh may ask the user something, for nothing else is on the terminal.
    """

    def __init__(self, host: Host, *, ssh: str = "ssh", may_ask: bool = True) -> None:
        self.host = host
        self._connection = Connection(host, ssh=ssh, may_ask=may_ask)

    def close(self) -> None:
        """Hang up. Idempotent; the next request connects again."""
        self._connection.close()

    def open(self) -> None:
        """Begin to connect, for what takes time meanwhile (ssh)."""
        self._connection.open()

    def abandon(self) -> None:
        """From another thread: what goes on here ends with KeyboardInterrupt, and nothing begins any more."""
        self._connection.abandon()

    def rest(self, seconds: float) -> None:
        """Wait, unless abandoned meanwhile. Raises: KeyboardInterrupt."""
        self._connection.rest(seconds)

    def status(self, app: str = "", *, patience_s: float | None = None) -> dict[str, Any]:
        """What is live, and what goes on. `patience_s`: how long to wait for it, if less than usual."""
        path = _path(Route.APP_STATUS, app) if app else Route.STATUS
        return self._connection.ask("GET", path, patience_s=patience_s)

    def releases(self, app: str = "") -> dict[str, Any]:
        """The releases on the host, and its recent deployments."""
        return self._connection.ask("GET", _path(Route.APP_RELEASES, app) if app else Route.RELEASES)

    def logs(
        self, app: str = "", *, lines: int, follow: bool = False, unit: str = "", silence_s: float = 60
    ) -> Iterator[LogLine | None]:
        """The last `lines` of the app's own log (of `unit` alone, if given), oldest first; with `follow` what
        comes then, as it comes, and None whenever the agent only shows that it is there.

        Raises: Unreachable, also when nothing came for `silence_s`; Problem.
        """
        query = {"lines": str(lines), "follow": "1" if follow else "", "unit": unit}
        path = _path(Route.APP_LOGS, app) if app else Route.LOGS
        path += "?" + urlencode({name: value for name, value in query.items() if value})
        for line in self._connection.lines(path, silence_s=silence_s):
            yield self._read(LogLine.from_line, line) if line.strip() else None

    def index(self, app: str, release: str, *, silence_s: float = 60) -> Iterator[Entry]:
        """What was signed for a release on the host: its files and links, in order."""
        path = f"{_path(Route.APP_INDEX, app)}?{urlencode({'release': release})}"
        for line in self._connection.lines(path, silence_s=silence_s):
            if line.strip():
                yield self._read(parse_index_line, line + b"\n")

    def missing(self, app: str, signed: Iterable[bytes]) -> frozenset[str]:
        """The digests that must travel. `papers` is a bundle without payload, judged on the way."""
        path = _path(Route.APP_MISSING, app)
        answer = self._connection.ask("POST", path, headers={"Content-Type": BUNDLE_TYPE}, body=signed)
        digests = answer.get("missing")
        if not isinstance(digests, list):
            raise self._connection.not_an_agent("its answer has no list of what is missing")
        return frozenset(str(digest) for digest in digests)

    def deploy(self, app: str, bundle: Iterable[bytes]) -> str:
        """Send a bundle; the deployment's id, as soon as the agent has all of it."""
        headers = {"Content-Type": BUNDLE_TYPE, **_ASYNC}
        return self._started(
            self._connection.ask("POST", _path(Route.APP_DEPLOYMENTS, app), headers=headers, body=bundle)
        )

    def rollback(self, app: str = "", *, to: str = "", leaving: str = "") -> str:
        """Begin to go back, to the release `to` or to the one before; the deployment's id.

        Refused (`not_live`) if `leaving` is given and is not the live release any more.
        """
        path = _path(Route.APP_ROLLBACK, app) if app else Route.ROLLBACK
        named = {name: value for name, value in (("to", to), ("from", leaving)) if value}
        query = f"?{urlencode(named)}" if named else ""
        return self._started(self._connection.ask("POST", path + query, headers=_ASYNC))

    def pin(self, app: str, release: str) -> None:
        """Keep a release whatever its age."""
        self._connection.ask("POST", f"{_path(Route.APP_PIN, app)}?{urlencode({'release': release})}")

    def unpin(self, app: str, release: str) -> None:
        """Let go of a pinned release."""
        self._connection.ask("DELETE", f"{_path(Route.APP_PIN, app)}?{urlencode({'release': release})}")

    def deployment(self, deployment: str) -> dict[str, Any]:
        """What one deployment is about, and how it ended if it has."""
        return self._connection.ask("GET", _path(Route.DEPLOYMENT, deployment))

    def events(self, deployment: str, *, after: int = 0, silence_s: float = 60) -> Iterator[Event | None]:
        """The deployment's events with a `seq` above `after`, as they happen; None whenever the agent
        only shows that it is there.

        Ends when the agent ends it, which alone is no proof that the deployment has finished.
        Raises: Unreachable, also when nothing came for `silence_s`; Problem.
        """
        yield from self._events(f"{_path(Route.DEPLOYMENT_EVENTS, deployment)}?after={after}", silence_s)

    def landing(self, app: str, manifest: str, *, silence_s: float = 60) -> Iterator[Event | None]:
        """What becomes of the landing with this manifest (its SHA-256), until it is settled; as `events`."""
        yield from self._events(Route.APP_DROP.format(app=quote(app, safe=""), manifest=manifest), silence_s)

    def _events(self, path: str, silence_s: float) -> Iterator[Event | None]:
        for line in self._connection.lines(path, silence_s=silence_s):
            yield self._read(Event.from_line, line) if line.strip() else None

    def _read(self, parse: Callable[[bytes], _T], line: bytes) -> _T:
        try:
            return parse(line)
        except WireError as error:
            raise self._connection.not_an_agent(str(error)) from error

    def _started(self, answer: dict[str, Any]) -> str:
        deployment = answer.get("deployment")
        if not isinstance(deployment, str):
            raise self._connection.not_an_agent("its answer names no deployment")
        return deployment


def _path(route: Route, name: str) -> str:
    return route.format(app=quote(name, safe=""), deployment=quote(name, safe=""))
