"""`pusher history`: what happened to the app on the hosts: deployments, rollbacks, pins, commands."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pusher.commands.answers import members, problem_title, show_answers
from pusher.commands.command import Command, always
from pusher.commands.options import add_options, count
from pusher.config import load
from pusher.terminal.screen import Screen
from pusher.terminal.text import Table, duration, moment
from pusher.transport.client import Client
from pusher.wire import Head, WireError
from pusher.wire.text import parse_object

_LINES = 20
_MOST = 10_000
_RECORDS_EACH = 4
"""How many records a deployment has at most: begun, standings, ended, a release that retention removes."""
_Record = Mapping[str, Any]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lines",
        type=lambda text: count(text, least=1, most=_MOST, of="a number of lines"),
        default=_LINES,
        metavar="N",
        help=f"how many, from the newest on (default {_LINES})",
    )
    add_options(parser, "host", "app", "ssh", "json")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    lines: int = arguments.lines

    def ask(client: Client) -> dict[str, Any]:
        answer = client.releases(settings.app)
        app = str(answer.get("app"))
        records = [*_records(client, app, after=max(0, _head(answer).records - lines * _RECORDS_EACH))]
        titles = {str(one.get("deployment")): problem_title(one) for one in members(answer, "deployments")}
        happened = [*_happened(records, titles)][-lines:]
        return {"app": app, "happened": [*reversed(happened)], "history": answer.get("history")}

    return show_answers(settings, screen, ask, _lines, as_json=arguments.json)


COMMAND = Command(
    name="history",
    help="show what happened: deployments, rollbacks, pins, commands",
    description="Shows what happened to the app, newest first: who deployed and rolled back what, how it ended, "
    "and why; pins; commands that were run. It is read from the chain of records that `pusher status` checks.",
    options=_options,
    run=_run,
    reads=always,
)


def _head(answer: Mapping[str, Any]) -> Head:
    """The head of the history in an answer; of an empty one, if it has none that can be read."""
    try:
        history = answer.get("history")
        return Head.from_members(history) if isinstance(history, Mapping) else Head()
    except WireError:
        return Head()


def _records(client: Client, app: str, *, after: int) -> Iterator[_Record]:
    for line in client.records(app, after=after):
        with suppress(WireError):  # whether the chain is whole is the question of `check_history`
            yield parse_object(line, "a record")


def _happened(records: Sequence[_Record], titles: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What the records say, a document each, in the order in which it began."""
    ends = {str(one.get("id")): one for one in records if one.get("what") == "ended"}
    exits = {str(one.get("run")): one for one in records if one.get("what") == "exited"}
    for one in records:
        match one.get("what"):
            case "begun":
                end = ends.get(str(one.get("id")), {})
                yield {
                    "when": _timestamp(one.get("started")),
                    "what": f"{one.get('kind')} of {one.get('version')}",
                    "outcome": end.get("phase") or "running",
                    "ms": _between(one.get("started"), end.get("finished")),
                    "by": one.get("by"),
                    "deployment": one.get("id"),
                    "why": titles.get(str(one.get("id")), ""),
                }
            case "command":
                end = exits.get(str(one.get("run")), {})
                code = end.get("code")
                yield {
                    "when": _timestamp(one.get("time")),
                    "what": f"command {one.get('command')}",
                    "outcome": "" if code is None else "done" if code == 0 else f"exit code {code}",
                    "ms": _between(one.get("time"), end.get("time")),
                    "by": one.get("by"),
                }
            case "pinned":
                done = "pinned" if one.get("pinned") else "unpinned"
                what = f"{done} {one.get('release')}"
                yield {"when": None, "what": what, "outcome": "done", "by": one.get("by")}


def _lines(document: Mapping[str, Any]) -> Iterator[str | Table]:
    rows = [
        (
            moment(one.get("when")),
            one.get("what"),
            one.get("outcome"),
            duration(one.get("ms")),
            one.get("by") or "",
            one.get("why", ""),
        )
        for one in document["happened"]
    ]
    if not rows:
        yield f"nothing has happened to {document['app']} yet"
        return
    yield Table(("WHEN (UTC)", "WHAT", "OUTCOME", "TOOK", "BY", ""), rows, ("TOOK", "BY"))


def _timestamp(ms: object) -> str | None:
    if isinstance(ms, bool) or not isinstance(ms, int) or not 0 <= ms < 1 << 47:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _between(began: object, ended: object) -> int | None:
    return ended - began if isinstance(began, int) and isinstance(ended, int) else None
