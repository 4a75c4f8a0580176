"""`pusher status`: what is live on the hosts, and the deployment that is running; or one deployment."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from pusher.commands.answers import members, problem_title, show_answers
from pusher.commands.command import Command
from pusher.commands.options import add_options
from pusher.config import load
from pusher.fleet.concerns import concerns
from pusher.fleet.fleet import on_each
from pusher.fleet.follow import follow_until_live
from pusher.fleet.skew import skew
from pusher.terminal.screen import Screen
from pusher.terminal.text import Table, commit_name, duration, moment, release_name
from pusher.transport.client import Client, is_deployment
from pusher.wire import Code, Refused


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--deployment", default="", metavar="ID", help="show this deployment instead")
    parser.add_argument("--follow", action="store_true", help="follow the deployment to its end")
    add_options(parser, "host", "app", "ssh", "json")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings, deployment = load(vars(arguments)), arguments.deployment
    if arguments.follow:

        def act(client: Client, screen: Screen) -> str:
            going = deployment or _going(client.status(settings.app))
            return f"{follow_until_live(client, going, screen).version} is live"

        return on_each(settings, screen, act, grouped=False)
    if deployment:
        return show_answers(
            settings,
            screen,
            lambda client: client.deployment(deployment),
            _deployment_lines,
            as_json=arguments.json,
        )
    return show_answers(
        settings,
        screen,
        lambda client: client.status(settings.app),
        _status_lines,
        as_json=arguments.json,
        together=_table,
    )


COMMAND = Command(
    name="status",
    help="show what is live, and what is being deployed",
    description="Shows what is live, and what is being deployed. With --follow, follows a deployment to its end.",
    options=_options,
    run=_run,
    reads=lambda arguments: not arguments.follow,
)


def _going(status: Mapping[str, Any]) -> str:
    """The id of the deployment that is running. Raises: Refused, if there is none."""
    deploying = status.get("deploying")
    if not isinstance(deploying, Mapping):
        raise Refused(
            Code.UNKNOWN_DEPLOYMENT,
            "There is nothing to follow",
            why="no deployment is running",
            hint="`pusher releases` lists past deployments; name one with --deployment",
        )
    name = deploying.get("deployment")
    if not is_deployment(name):
        raise Refused(Code.INTERNAL, "There is nothing to follow", why=f"no deployment is called {name!r:.80}")
    return str(name)


def _table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Several hosts, a line each."""
    rows = []
    for name, document in found.items():
        going, last = document.get("deploying"), document.get("last")
        doing = f"deploying {going.get('version')}, by {going.get('by')}" if isinstance(going, Mapping) else ""
        worries = [" ".join(one.split()) for one in concerns(document)]
        if worries:
            doing = f"{doing}; {worries[0]}".removeprefix("; ")
        if not doing and isinstance(last, Mapping) and last.get("outcome") not in (None, "done"):
            doing = f"last: {_line(last)}"
        running = "yes" if document.get("running") else "no"
        rows.append(
            (name, release_name(document.get("live")), release_name(document.get("previous")), running, doing)
        )
    return Table(("HOST", "LIVE", "PREVIOUS", "RUNNING", ""), rows, ("PREVIOUS",))


def _status_lines(document: Mapping[str, Any]) -> Iterator[str | Table]:
    agent = f", agent {document['agent']}" if document.get("agent") else ""
    yield f"{document.get('app')} on {document.get('host', 'this host')}{agent}"
    live = document.get("live")
    never = "nothing yet. To deploy: pusher send"
    yield f"  live       {release_name(live) if isinstance(live, Mapping) or document.get('last') else never}"
    if isinstance(live, Mapping):
        yield from _source_lines(live.get("source"))
        if live.get("signed_by"):
            yield f"  signed by  {live['signed_by']}"
    yield from skew(document.get("agent"))
    yield f"  previous   {release_name(document.get('previous'))}"
    listen = f" at {document['listen']}" if document.get("listen") else ""
    yield f"  running    {f'yes{listen}' if document.get('running') else 'no'}"
    yield from (f"  {line}" for line in concerns(document))
    yield from _process_lines(document)
    yield from _channel_lines(document)
    deploying = document.get("deploying")
    if isinstance(deploying, Mapping):
        by = f", by {deploying['by']}" if deploying.get("by") else ""
        yield f"  deploying  {deploying.get('version')} ({deploying.get('deployment')}){by}"
    last = document.get("last")
    if isinstance(last, Mapping):
        yield f"  last       {_line(last)}"


def _source_lines(source: object) -> Iterator[str | Table]:
    """The commit that is live, and where it comes from, as its signer says."""
    if isinstance(source, Mapping):
        authored = f", of {moment(source['authored'])}" if source.get("authored") else ""
        remote = f", from {source['remote']}" if source.get("remote") else ""
        yield f"  commit     {commit_name(source)}{authored}{remote}"


def _process_lines(document: Mapping[str, Any]) -> Iterator[str | Table]:
    """The app's workers and timers, a line each."""
    for process in members(document, "processes"):
        version = f" {process['version']}" if process.get("version") else ""
        doing = f"running{version}, process {process.get('pid')}" if process.get("running") else "not running"
        why = f": {process['why']}" if process.get("why") else ""
        yield f"  process    {process.get('name')}: {doing}{why}"
    for timer in members(document, "timers"):
        ending = f", {timer['ending']}" if timer.get("ending") else ""
        last = f"last {moment(timer.get('last'))}{ending}" if timer.get("last") else "has not run yet"
        now = "running now, " if timer.get("running") else ""
        coming = f"next {moment(timer.get('next'))}" if timer.get("next") else "no next run"
        yield f"  timer      {timer.get('name')}: {now}{last}, {coming}"


def _channel_lines(document: Mapping[str, Any]) -> Iterator[str | Table]:
    """How an app that fetches its releases stands to its channel."""
    channel = document.get("channel")
    if not isinstance(channel, Mapping):
        return
    wanted = channel.get("wanted")
    version = f", wants {wanted.get('version')}" if isinstance(wanted, Mapping) else ""
    awaited = f" for its {channel['awaited']}" if channel.get("awaited") else ""
    problem = channel.get("problem")
    why, hint = "", ""
    if isinstance(problem, Mapping):
        why = "".join(f": {problem[one]}" for one in ("title", "detail") if problem.get(one))
        hint = str(problem.get("hint") or "")
    elif channel.get("state") not in ("current", "waiting"):
        from pusher.fleet.standing import WHY  # here: it imports what a fleet needs

        hint = WHY.get(str(channel.get("state")), "")
    yield f"  channel    {channel.get('channel')}{version}: {channel.get('state')}{awaited}{why}"
    if hint:
        yield f"             {hint}"


def _deployment_lines(document: Mapping[str, Any]) -> Iterator[str | Table]:
    yield f"deployment {document.get('deployment')} of {document.get('app')}: {_line(document)}"
    if document.get("by"):
        yield f"  by         {document['by']}"
    if document.get("signed_by"):
        yield f"  signed by  {document['signed_by']}"
    yield f"  release    {document.get('release')}"
    for step in members(document, "steps"):
        failed = "  FAILED" if step.get("outcome") == "failed" else ""
        name = f"{'' if step.get('kind') == 'step' else str(step.get('kind')) + ' '}{step.get('name')}"
        yield f"    {name:<30} {duration(step.get('ms')):>8}{failed}"


def _line(document: Mapping[str, Any]) -> str:
    """A deployment in one line: what, its outcome, when, how long; and why, if it did not end well."""
    took = duration(document.get("ms"))
    parts = [
        f"{document.get('kind')} of {document.get('version')}",
        str(document.get("outcome") or "running"),
        moment(document.get("started")),
        took,
    ]
    title = problem_title(document)
    return ", ".join(part for part in parts if part) + (f": {title}" if title else "")
