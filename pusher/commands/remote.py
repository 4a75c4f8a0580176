"""The commands that ask hosts, or tell them: `status`, `releases`, `rollback`, `pin`, `unpin`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pusher.config import Settings
from pusher.errors import Interrupted, Unreachable
from pusher.fleet.fleet import answers, clients_of, on_each
from pusher.fleet.follow import asking, follow
from pusher.fleet.rollout import ASKING_S, Live, Rollout, Tour
from pusher.terminal.show import Screen, duration, moment, release_name, table
from pusher.transport.client import Client
from pusher.wire import Code, Problem, Refused

_HISTORY = 10


def status(settings: Settings, screen: Screen, *, deployment: str, follow_it: bool, as_json: bool) -> int:
    """What is live and what goes on; or one deployment, to its end if `follow_it`. The exit code."""
    if not follow_it:
        if deployment:
            return _show(settings, screen, lambda client: client.deployment(deployment), _deployment, as_json)
        every = None if as_json else _overview
        return _show(settings, screen, lambda client: client.status(settings.app), _status, as_json, every)

    def act(client: Client, screen: Screen) -> str:
        live = _followed(client, screen, deployment or _under_way(client.status(settings.app)))
        return f"{live.version} is live"

    return on_each(settings, screen, act, kept=False)


def releases(settings: Settings, screen: Screen, *, as_json: bool) -> int:
    """The releases on the host, newest first, and its last deployments. The exit code."""
    return _show(settings, screen, lambda client: client.releases(settings.app), _releases, as_json)


def rollback(settings: Settings, screen: Screen, *, to: str, tour: Tour) -> int:
    """Go back to the release before, or to the one named, and follow it to its end. The exit code.

    Of several hosts, none is changed if one cannot be.
    """

    def act(client: Client, screen: Screen) -> Live:
        screen.line(f"rolling back {settings.app or 'the app'} on {client.host.name}")
        see = f"Whether it has begun, {asking(client.host.name)} tells"
        try:
            deployment = client.rollback(settings.app, to=to)
        except KeyboardInterrupt as error:
            raise Interrupted(f"Interrupted while asking {client.host.name} to go back. {see}") from error
        except Unreachable as error:
            raise Unreachable(error.what, why=error.why, hint=f"{see}. {error.hint}") from error
        return _followed(client, screen, deployment)

    with clients_of(settings) as clients:
        rollout = Rollout(clients, screen, tour=tour)
        if rollout.several:
            rollout.ask(lambda client: _check_way_back(client, settings.app, to), doing="asking")
        return rollout.change(act, before={})


def pin(release: str, settings: Settings, screen: Screen, *, pinned: bool) -> int:
    """Keep a release whatever its age, or no longer. The exit code."""

    def act(client: Client, screen: Screen) -> str:
        app = settings.app or str(client.status()["app"])
        (client.pin if pinned else client.unpin)(app, release)
        result = f"{release} is {'kept until it is unpinned' if pinned else 'no longer pinned'}"
        screen.line(result)
        return result

    return on_each(settings, screen, act)


def _show(
    settings: Settings,
    screen: Screen,
    ask: Callable[[Client], dict[str, Any]],
    lines: Callable[[Mapping[str, Any]], Iterator[str]],
    as_json: bool,
    every: Callable[[Mapping[str, Mapping[str, Any]]], list[str]] | None = None,
) -> int:
    """Show what the hosts answer: as JSON, by `every` if they are several, or else each in its `lines`."""
    several = len(settings.chosen) > 1
    width = max((len(host.name) for host in settings.chosen), default=0)

    def show(found: Mapping[str, dict[str, Any]]) -> None:
        if several and every and found:
            for line in every(found):
                screen.line(line)
            return
        for name, document in found.items():
            if as_json:
                screen.document({**document, "address": name})
                continue
            marked = screen.of_host(name, width=width) if several else screen
            for line in lines(document):
                marked.line(line)

    with clients_of(settings) as clients:
        return answers(clients, ask, show, screen)


def _check_way_back(client: Client, app: str, to: str) -> bool:
    """Whether a rollback can begin, as far as can be seen. Raises: Problem, if not."""
    status = client.status(app, patience_s=ASKING_S)
    name, going = status.get("app"), status.get("deploying")
    if isinstance(going, Mapping):
        hint = f"`pusher status --deployment {going.get('deployment')} --follow` shows it"
        raise Refused(Code.BUSY, f"{going.get('by')} is deploying {going.get('version')} on {name}", hint=hint)
    there = f"`pusher releases --host {client.host.name}` lists those there are"
    if to and not any(one.get("id") == to for one in client.releases(app).get("releases", [])):
        raise Refused(Code.UNKNOWN_RELEASE, f"{name} has no release {to}", hint=there)
    if not to and not status.get("previous"):
        raise Refused(Code.NOTHING_TO_ROLL_BACK_TO, f"{name} has nothing to roll back to", hint=there)
    return True


def _followed(client: Client, screen: Screen, deployment: str) -> Live:
    data = follow(client, deployment, screen)
    app, version, release = (str(data.get(member)) for member in ("app", "version", "release"))
    took = duration(data.get("ms"))
    screen.line(f"{app} {version} is live on {client.host.name}: release {release}, {took}")
    warning = data.get("warning")
    if isinstance(warning, Mapping):
        screen.line(f"warning: {Problem.from_document(warning)}")
    return Live(app, version, release, str(data.get("previous") or ""))


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


def _overview(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line a host."""
    rows = []
    for name, document in found.items():
        going, last = document.get("deploying"), document.get("last")
        doing = f"deploying {going.get('version')}, by {going.get('by')}" if isinstance(going, Mapping) else ""
        if not doing and isinstance(last, Mapping) and last.get("outcome") not in (None, "done"):
            doing = f"last: {_line(last)}"
        running = "yes" if document.get("running") else "no"
        rows.append(
            (name, release_name(document.get("live")), release_name(document.get("previous")), running, doing)
        )
    return table(("HOST", "LIVE", "PREVIOUS", "RUNNING", ""), rows)


def _status(document: Mapping[str, Any]) -> Iterator[str]:
    agent = f", agent {document['agent']}" if document.get("agent") else ""
    yield f"{document.get('app')} on {document.get('host', 'this host')}{agent}"
    yield f"  live       {release_name(document.get('live'))}"
    yield f"  previous   {release_name(document.get('previous'))}"
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
