"""The commands that ask hosts, or tell them: `status`, `releases`, `diff`, `logs`, `rollback`, `pin`, `unpin`."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pusher.client import Client
from pusher.config import Settings
from pusher.diff import compare, document, requirements_changed, summary
from pusher.errors import Unreachable, Usage
from pusher.fleet import chosen, each
from pusher.follow import follow
from pusher.show import Screen, duration, moment, table
from pusher.source import BundleFile, Folder, locate
from pusher.wire import Code, Problem, Refused, format_timestamp

_HISTORY = 10


def status(settings: Settings, screen: Screen, *, deployment: str, follow_it: bool, as_json: bool) -> int:
    """What is live and what goes on; or one deployment, to its end if `follow_it`. The exit code."""

    def act(client: Client, screen: Screen) -> str:
        if follow_it:
            return _followed(client, screen, deployment or _under_way(client.status(settings.app)))
        document = client.deployment(deployment) if deployment else client.status(settings.app)
        return _told(document, _deployment if deployment else _status, client, screen, as_json)

    return _on_each(settings, screen, act)


def releases(settings: Settings, screen: Screen, *, as_json: bool) -> int:
    """The releases on the host, newest first, and its last deployments. The exit code."""

    def act(client: Client, screen: Screen) -> str:
        return _told(client.releases(settings.app), _releases, client, screen, as_json)

    return _on_each(settings, screen, act)


def diff(what: str, settings: Settings, screen: Screen, *, release: str, as_json: bool) -> int:
    """What sending a version would change, against the live release or the one named. The exit code.

    Only names, modes and digests are compared: no content of the host's comes back.
    """
    from pusher import bundle, pack  # late: what only asks a host starts without them

    found = locate(what, source=settings.source)
    packed = bundle.read(found.path) if isinstance(found, BundleFile) else None
    version = found.version if isinstance(found, Folder) else ""
    entries = packed.entries if packed else pack.read(found.path).entries

    def act(client: Client, screen: Screen) -> str:
        status = client.status(settings.app)
        app = str(status.get("app"))
        live = status.get("live")
        against = release or (str(live.get("release")) if isinstance(live, Mapping) else "")
        difference = compare(client.index(app, against) if against else (), entries)
        requirements = str(status.get("requirements", ""))
        facts = {
            "app": app,
            "version": packed.manifest.version if packed else version,
            "release": against or None,
            "requirements_changed": requirements_changed(difference, requirements),
        }
        if as_json:
            screen.document({**facts, **document(difference), "address": client.host.name})
            return ""
        screen.line(f"{app} {facts['version']} against {_compared(release, live)} on {client.host.name}")
        for line in summary(difference):
            screen.line(line)
        if facts["requirements_changed"]:
            screen.line(f"{requirements}, or wheels/, is another: its dependencies are installed anew")
        return ""

    return _on_each(settings, screen, act)


def logs(settings: Settings, screen: Screen, *, lines: int, follow_it: bool, unit: str, as_json: bool) -> int:
    """What the app wrote, and was said about it, oldest first; with `follow_it` until Ctrl-C. The exit code."""
    if follow_it and len(settings.chosen) > 1:
        raise Usage(
            "The logs of several hosts cannot be followed at once", hint="Name one, or run it once for each"
        )

    def act(client: Client, screen: Screen) -> str:
        for line in client.logs(settings.app, lines=lines, follow=follow_it, unit=unit):
            if line is None:
                continue
            if as_json:
                screen.document({**json.loads(line.to_line()), "address": client.host.name})
            else:
                who = line.unit if line.pid is None else f"{line.unit}[{line.pid}]"
                screen.line(f"{moment(format_timestamp(line.time))}Z {who}: {line.message}")
        if follow_it:
            hint = "Follow it again when its agent is up"
            raise Unreachable(f"The agent of {client.host.name} ended the log", hint=hint)
        return ""

    return _on_each(settings, screen, act)


def rollback(settings: Settings, screen: Screen, *, to: str) -> int:
    """Go back to the release before, or to the one named, and follow it to its end. The exit code."""

    def act(client: Client, screen: Screen) -> str:
        screen.line(f"rolling back {settings.app or 'the app'} on {client.host.name}")
        return _followed(client, screen, client.rollback(settings.app, to=to))

    return _on_each(settings, screen, act, summary=True)


def pin(release: str, settings: Settings, screen: Screen, *, pinned: bool) -> int:
    """Keep a release whatever its age, or no longer. The exit code."""

    def act(client: Client, screen: Screen) -> str:
        app = settings.app or str(client.status()["app"])
        (client.pin if pinned else client.unpin)(app, release)
        result = f"{release} is {'kept until it is unpinned' if pinned else 'no longer pinned'}"
        screen.line(result)
        return result

    return _on_each(settings, screen, act)


def _on_each(
    settings: Settings, screen: Screen, act: Callable[[Client, Screen], str], *, summary: bool = False
) -> int:
    hosts = chosen(settings.chosen, known=tuple(settings.hosts))
    clients = [Client(host, ssh=settings.ssh) for host in hosts]
    try:
        return each(clients, act, screen, summary=summary)
    finally:
        for client in clients:
            client.close()


def _compared(release: str, live: object) -> str:
    if release:
        return f"release {release}"
    return f"{_short(live)}, which is live" if isinstance(live, Mapping) else "nothing: no release is live"


def _followed(client: Client, screen: Screen, deployment: str) -> str:
    data = follow(client, deployment, screen)
    release, version = data.get("release"), data.get("version")
    took = duration(data.get("ms"))
    screen.line(f"{data.get('app')} {version} is live on {client.host.name}: release {release}, {took}")
    warning = data.get("warning")
    if isinstance(warning, Mapping):
        screen.line(f"warning: {Problem.from_document(warning)}")
    return f"{version} is live, {took}"


def _under_way(document: Mapping[str, Any]) -> str:
    deploying = document.get("deploying")
    if not isinstance(deploying, Mapping):
        raise Refused(
            Code.UNKNOWN_DEPLOYMENT,
            "There is nothing to follow",
            why="no deployment is going on",
            hint="`pusher releases` lists past ones; name one with --deployment",
        )
    return str(deploying.get("deployment"))


def _told(
    document: dict[str, Any],
    lines: Callable[[Mapping[str, Any]], Iterator[str]],
    client: Client,
    screen: Screen,
    as_json: bool,
) -> str:
    if as_json:
        screen.document({**document, "address": client.host.name})
    else:
        for line in lines(document):
            screen.line(line)
    return ""


def _status(document: Mapping[str, Any]) -> Iterator[str]:
    agent = f", agent {document['agent']}" if document.get("agent") else ""
    yield f"{document.get('app')} on {document.get('host', 'this host')}{agent}"
    yield f"  live       {_short(document.get('live'))}"
    yield f"  previous   {_short(document.get('previous'))}"
    listen = f" at {document['listen']}" if document.get("listen") else ""
    yield f"  running    {f'yes{listen}' if document.get('running') else 'no'}"
    deploying = document.get("deploying")
    if isinstance(deploying, Mapping):
        by = f", by {deploying['by']}" if deploying.get("by") else ""
        yield f"  deploying  {deploying.get('version')} ({deploying.get('deployment')}){by}"
    last = document.get("last")
    if isinstance(last, Mapping):
        yield f"  last       {_line(last)}"


def _deployment(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"deployment {document.get('deployment')} of {document.get('app')}: {_line(document)}"
    if document.get("by"):
        yield f"  by         {document['by']}"
    yield f"  release    {document.get('release')}"


def _line(document: Mapping[str, Any]) -> str:
    """A deployment in a line: what, how it ended, when, and why if not well."""
    took = duration(document.get("ms"))
    parts = [
        f"{document.get('kind')} of {document.get('version')}",
        str(document.get("outcome") or "going on"),
        moment(document.get("started")),
        took,
    ]
    problem = document.get("problem")
    title = problem.get("title", "") if isinstance(problem, Mapping) else ""
    return ", ".join(part for part in parts if part) + (f": {title}" if title else "")


def _releases(document: Mapping[str, Any]) -> Iterator[str]:
    marks = {"live": "live", "fallback": "fallback", "pinned": "pinned"}
    rows = [
        (
            one.get("id"),
            one.get("version"),
            one.get("standing"),
            moment(one.get("created")),
            one.get("by") or "",
            ", ".join(word for member, word in marks.items() if one.get(member)),
        )
        for one in document.get("releases", [])
    ]
    if not rows:
        yield "no releases yet"
    else:
        yield from table(("RELEASE", "VERSION", "STANDING", "CREATED (UTC)", "BY", ""), rows)
    history = document.get("deployments", [])[:_HISTORY]
    if history:
        yield ""
        yield from table(
            ("DEPLOYMENT", "KIND", "VERSION", "OUTCOME", "STARTED (UTC)", "TOOK", "BY", ""),
            [
                (
                    one.get("deployment"),
                    one.get("kind"),
                    one.get("version"),
                    one.get("outcome") or "going on",
                    moment(one.get("started")),
                    duration(one.get("ms")),
                    one.get("by") or "",
                    (one.get("problem") or {}).get("title", ""),
                )
                for one in history
            ],
        )


def _short(release: object) -> str:
    if not isinstance(release, Mapping):
        return "-"
    return f"{release.get('version')} ({release.get('release')})"
