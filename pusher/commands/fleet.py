"""`pusher fleet`: which hosts belong to a fleet, and how each stands to its channel."""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pusher.commands.command import Command
from pusher.commands.options import add_channel, add_options
from pusher.config import load
from pusher.errors import Usage
from pusher.fleet.inventory import adopt
from pusher.fleet.standing import SILENT, UNPROVED, UNSEEN, Place, counts, exit_code, is_unwell
from pusher.fleet.survey import Survey, survey
from pusher.terminal.screen import Screen
from pusher.terminal.text import Table
from pusher.wire import format_timestamp
from pusher.wire.report import STATES

_SHOWN = 15


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("adopt", "status"),
        metavar="ACTION",
        help="adopt HOST.pub: a host belongs to the fleet; status: how all hosts stand",
    )
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="HOST.pub", help="what `pusher-agent identity` printed on the host"
    )
    parser.add_argument("--name", default="", metavar="NAME", help="the host's name (default: that in HOST.pub)")
    parser.add_argument(
        "--state",
        choices=(*STATES, SILENT, UNSEEN, UNPROVED),
        default="",
        metavar="STATE",
        help="list the hosts in this state, all by name",
    )
    parser.add_argument("--fleet", metavar="FILE", help="the inventory (default fleet.allowed) (PUSHER_FLEET)")
    add_channel(parser)
    add_options(parser, "repository", "app", "json")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    if arguments.action == "adopt":
        if arguments.file is None:
            raise Usage("No key is named", hint="pusher fleet adopt HOST.pub")
        screen.line(adopt(Path(settings.fleet), _key(arguments.file), name=arguments.name))
        return 0
    if arguments.file is not None:
        raise Usage(f"status takes no file, and {arguments.file} is one")
    seen = survey(settings, arguments.channel)
    found = seen.places
    shown = [one for one in found if not arguments.state or one.state == arguments.state]
    if arguments.json:
        for one in shown:
            screen.document(_members(one))
    else:
        for line in _lines(seen, shown if arguments.state else None):
            screen.show(line)
    return exit_code(found)


COMMAND = Command(
    name="fleet",
    help="add hosts to a fleet, and show how they stand",
    description="Adds hosts to the inventory of a fleet, by the keys with which they sign their reports; or shows "
    "how all of them stand to a channel. Exits with 0 if all are current, 1 if some failed or are not there yet, "
    "4 if some refuse or are held, 5 if some are silent.",
    options=_options,
    run=_run,
    reads=lambda arguments: bool(arguments.action == "status"),
)


def _key(file: Path) -> str:
    import sys

    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        hint = "Name the file with what `pusher-agent identity` printed on the host"
        raise Usage(f"{file} cannot be read", why=why, hint=hint) from error


def _lines(seen: Survey, listed: Sequence[Place] | None) -> Iterator[str | Table]:
    document, found = seen.document, seen.places
    if document is not None:
        rollout = document.rollout
        paused = ", PAUSED" if document.state == "paused" else ", BRAKE" if seen.braked else ""
        if document.expires <= time.time() * 1000:
            paused += ", EXPIRED: pusher channel renew"
        waves = f"wave {rollout.open} of {len(rollout.waves)} is open"
        yield f"{document.app} {document.channel}: {document.target.release.version}, {waves}{paused}"
    if listed is not None:
        rows = [(one.name, one.state, one.version, one.why) for one in listed]
        yield Table(("HOST", "STATE", "LIVE", ""), rows)
        return
    yield Table(("LIVE", "STATE", "HOSTS"), counts(found))
    unwell = [one for one in found if is_unwell(one)]
    for state in dict.fromkeys(one.state for one in unwell):
        those = [one for one in unwell if one.state == state]
        yield ""
        yield f"{state} ({len(those)}):"
        for one in those[:_SHOWN]:
            yield f"  {one.name}" + (f"  {one.why}" if one.why else "")
        if len(those) > _SHOWN:
            yield f"  and {len(those) - _SHOWN} more: pusher fleet status --state {state}"
        reports = [one.heard.report for one in those[:_SHOWN] if one.heard and one.heard.report]
        for hint in dict.fromkeys(report.problem["hint"] for report in reports if report.problem.get("hint")):
            yield f"    {hint}"


def _members(one: Place) -> dict[str, Any]:
    report = one.heard.report if one.heard else None
    return {
        "host": one.name,
        "state": one.state,
        "version": one.version or None,
        "why": one.why,
        "reported": format_timestamp(report.created) if report else None,
        "labels": dict(report.labels) if report else {},
    }
