"""A client of the agent's HTTP door, with a method for each route (docs/reference/http-api.md)."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from pusher.transport.bounds import LINES, WHOLE_S
from pusher.transport.connection import Connection
from pusher.transport.hosts import Host
from pusher.wire import BUNDLE_TYPE, Entry, Event, Happened, LogLine, Route, WireError, parse_index_line
from pusher.wire.text import check_sha256

_T = TypeVar("_T")
_DEPLOYMENT = re.compile(r"([a-z][a-z0-9-]{0,29}[a-z0-9])-[0-9]{1,14}Z?", re.ASCII)
_DIGEST = 80  # bytes of a digest in JSON, with everything around it
_FEW = 1_000
INDEX_LINES = 1_000_000
"""Limit for the index of a release: ten times as many files as a host accepts by default."""
RECORDS = 1_000_000
"""Limit for the records of a history that are read at a time: of some 300,000 deployments."""
# RFC 7240: the agent answers when it has received everything, not when the deployment is over.
_ASYNC = {"Prefer": "respond-async"}


class Client:
    """Speaks with the agent of one host. Only `abandon` may be called from another thread. `close` it at the end.

    Every request raises `Problem`: the agent's own, or `Unreachable`. An empty `app` means the only app of the
    host. `ssh` is the command; with `may_ask`, it may ask the user something. `answer_s` is how long an answer may
    take to begin (None: the usual time); `whole_s` is how long the rest of it may take.
    """

    def __init__(
        self,
        host: Host,
        *,
        ssh: str = "ssh",
        may_ask: bool = True,
        answer_s: float | None = None,
        whole_s: float = WHOLE_S,
    ) -> None:
        self.host = host
        self.ssh = ssh
        self._connection = Connection(host, ssh=ssh, may_ask=may_ask, answer_s=answer_s, whole_s=whole_s)

    def close(self) -> None:
        """Hang up. Idempotent; the next request connects again."""
        self._connection.close()

    def open(self) -> None:
        """Begin to connect: ssh can start while there is other work."""
        self._connection.open()

    def abandon(self) -> None:
        """From another thread: end the current request, and every later one, with KeyboardInterrupt."""
        self._connection.abandon()

    @property
    def ahead_s(self) -> float:
        """How far the host's clock is ahead of this machine's, to a second; 0 if it did not answer yet."""
        return self._connection.ahead_s

    def rest(self, seconds: float) -> None:
        """Wait. Raises: KeyboardInterrupt, when abandoned."""
        self._connection.rest(seconds)

    def status(self, app: str = "", *, patience_s: float | None = None) -> dict[str, Any]:
        """What is live, and what is being deployed. `patience_s`: how long to wait, if less than usual."""
        path = _path(Route.APP_STATUS, app) if app else Route.STATUS
        return self._connection.ask("GET", path, patience_s=patience_s)

    def apps(self) -> dict[str, Any]:
        """The apps of the host, and what is wrong with those that cannot be used."""
        return self._connection.ask("GET", Route.APPS)

    def health(self, app: str) -> dict[str, Any]:
        """What the app answers to its health check now."""
        return self._connection.ask("GET", _path(Route.APP_HEALTH, app))

    def releases(self, app: str = "") -> dict[str, Any]:
        """The releases on the host, and its recent deployments."""
        return self._connection.ask("GET", _path(Route.APP_RELEASES, app) if app else Route.RELEASES)

    def logs(
        self, app: str = "", *, lines: int, follow: bool = False, unit: str = "", silence_s: float = 60
    ) -> Iterator[LogLine | None]:
        """The last `lines` of the app's log (only of `unit`, if given), oldest first. With `follow`, also later
        lines as they come, and None whenever the agent only shows that it is alive.

        Raises: Unreachable, also after `silence_s` without data; Problem.
        """
        query = {"lines": str(lines), "follow": "1" if follow else "", "unit": unit}
        path = _path(Route.APP_LOGS, app) if app else Route.LOGS
        path += "?" + urlencode({name: value for name, value in query.items() if value})
        # Empty lines may come in between.
        most = None if follow else 2 * lines + _FEW
        for line in self._connection.lines(path, silence_s=silence_s, most=most):
            yield self._read(LogLine.from_line, line) if line.strip() else None

    def index(self, app: str, release: str, *, silence_s: float = 60) -> Iterator[Entry]:
        """The signed index of a release on the host: its files and links, in order."""
        path = f"{_path(Route.APP_INDEX, app)}?{urlencode({'release': release})}"
        for line in self._connection.lines(path, silence_s=silence_s, most=INDEX_LINES):
            if line.strip():
                yield self._read(parse_index_line, line + b"\n")

    def sbom(self, app: str, release: str) -> dict[str, Any]:
        """What was installed for a release, as a CycloneDX document."""
        return self._connection.ask("GET", f"{_path(Route.APP_SBOM, app)}?{urlencode({'release': release})}")

    def records(self, app: str, *, after: int, silence_s: float = 60) -> Iterator[bytes]:
        """The records of the app's history after the one of this number, in order, each without its newline."""
        path = f"{_path(Route.APP_HISTORY, app)}?after={after}"
        for line in self._connection.lines(path, silence_s=silence_s, most=RECORDS):
            if line.strip():
                yield line

    def missing(self, app: str, signed: Iterable[bytes], *, files: int) -> frozenset[str]:
        """The digests that the host lacks. `signed` is a bundle without files, of so many `files`; the agent
        verifies it as well."""
        path, most = _path(Route.APP_MISSING, app), files + _FEW
        answer = self._connection.ask(
            "POST", path, headers={"Content-Type": BUNDLE_TYPE}, body=signed, most=_DIGEST * most, values=most
        )
        digests = answer.get("missing")
        if not isinstance(digests, list) or len(digests) > files:
            raise self._connection.not_an_agent("its answer does not list what is missing")
        try:
            return frozenset(check_sha256(digest if isinstance(digest, str) else "") for digest in digests)
        except WireError as error:
            raise self._connection.not_an_agent(str(error)) from error

    def deploy(self, app: str, bundle: Iterable[bytes]) -> str:
        """Send a bundle. Returns the id of the deployment, as soon as the agent has all of the bundle."""
        headers = {"Content-Type": BUNDLE_TYPE, **_ASYNC}
        answer = self._connection.ask("POST", _path(Route.APP_DEPLOYMENTS, app), headers=headers, body=bundle)
        return self._started(answer, app)

    def rollback(self, app: str = "", *, to: str = "", leaving: str = "") -> str:
        """Begin a rollback, to the release `to` or to the one before. Returns the id of the deployment.

        Refused (`not_live`), if `leaving` is given and is not the live release any more.
        """
        path = _path(Route.APP_ROLLBACK, app) if app else Route.ROLLBACK
        named = {name: value for name, value in (("to", to), ("from", leaving)) if value}
        query = f"?{urlencode(named)}" if named else ""
        return self._started(self._connection.ask("POST", path + query, headers=_ASYNC), app)

    def cancel(self, app: str = "", *, deployment: str = "") -> str:
        """End the deployment that is under way, or only this one. Its id; it ends when it is taken back."""
        path = _path(Route.APP_CANCEL, app) if app else Route.CANCEL
        query = f"?{urlencode({'deployment': deployment})}" if deployment else ""
        return self._started(self._connection.ask("POST", path + query), app)

    def pin(self, app: str, release: str) -> None:
        """Keep a release, whatever its age."""
        self._connection.ask("POST", f"{_path(Route.APP_PIN, app)}?{urlencode({'release': release})}")

    def unpin(self, app: str, release: str) -> None:
        """Do not keep a release any longer than others."""
        self._connection.ask("DELETE", f"{_path(Route.APP_PIN, app)}?{urlencode({'release': release})}")

    def deployment(self, deployment: str) -> dict[str, Any]:
        """One deployment: what it deploys, and its outcome if it has ended."""
        return self._connection.ask("GET", _path(Route.DEPLOYMENT, deployment))

    def events(self, deployment: str, *, after: int = 0, silence_s: float = 60) -> Iterator[Event | None]:
        """The events of the deployment with a `seq` above `after`, as they happen; None whenever the agent only
        shows that it is alive.

        The end of the stream alone does not prove that the deployment has ended.
        Raises: Unreachable, also after `silence_s` without data; Problem.
        """
        path = f"{_path(Route.DEPLOYMENT_EVENTS, deployment)}?after={after}"
        yield from self._events(path, silence_s, after=after)

    def drop_events(self, app: str, manifest: str, *, silence_s: float = 60) -> Iterator[Event | None]:
        """The events of the drop with this manifest (its SHA-256) until it is deployed or refused; as `events`."""
        yield from self._events(Route.APP_DROP.format(app=quote(app, safe=""), manifest=manifest), silence_s)

    def _events(self, path: str, silence_s: float, *, after: int | None = None) -> Iterator[Event | None]:
        """With `after`, events must count upwards from there. The last one need not: it may be numbered anew."""
        for line in self._connection.lines(path, silence_s=silence_s):
            event = self._read(Event.from_line, line) if line.strip() else None
            if after is not None and event is not None and event.event != Happened.FINISHED:
                if not after < event.seq <= LINES:
                    raise self._connection.not_an_agent(f"its event {event.seq} comes after {after}")
                after = event.seq
            yield event

    def _read(self, parse: Callable[[bytes], _T], line: bytes) -> _T:
        try:
            return parse(line)
        except WireError as error:
            raise self._connection.not_an_agent(str(error)) from error

    def _started(self, answer: dict[str, Any], app: str) -> str:
        deployment = answer.get("deployment")
        if not is_deployment(deployment, app):
            raise self._connection.not_an_agent("its answer names no deployment")
        return str(deployment)


def is_deployment(name: object, app: str = "") -> bool:
    """Whether this can be the id of a deployment (of `app`, if given). It is shown as a part of commands."""
    found = _DEPLOYMENT.fullmatch(name) if isinstance(name, str) else None
    return found is not None and app in ("", found[1])


def _path(route: Route, name: str) -> str:
    return route.format(app=quote(name, safe=""), deployment=quote(name, safe=""))
