"""`pusher logs`: the app's log, and what systemd says about its units."""

import argparse
import json
import re

from pusher.commands.command import Command, always
from pusher.commands.options import add_options, count
from pusher.config import load
from pusher.errors import Unreachable, Usage
from pusher.fleet.fleet import on_each
from pusher.terminal.screen import Screen
from pusher.terminal.text import moment
from pusher.transport.client import Client
from pusher.wire import LOG_LINES, LOG_LINES_MOST, LogLine, LogUnit, format_timestamp

_STAMP = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] (?=\[[A-Z]+\] )")
"""The time and process that gunicorn writes; each line here has both already."""
_SLEEP = re.compile(r".*(Handling signal: term|Worker exiting \(pid: \d+\)|Shutting down: Master)")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        *("-n", "--lines"),
        type=lambda text: count(text, least=0, most=LOG_LINES_MOST, of="a number"),
        default=LOG_LINES,
        metavar="N",
        help=f"how many of the last lines to show (default {LOG_LINES})",
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="also show new lines as they come, until Ctrl-C"
    )
    parser.add_argument(
        "--unit",
        default="",
        metavar="UNIT",
        help=f"only this unit: {', '.join(LogUnit)}, or the name of a process or a timer",
    )
    add_options(parser, "host", "app", "ssh", "json")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    if arguments.follow and len(settings.chosen) > 1:
        raise Usage(
            "The logs of several hosts cannot be followed at once",
            hint="Name one host, or run the command once for each",
        )

    def act(client: Client, screen: Screen) -> str:
        for line in client.logs(settings.app, lines=arguments.lines, follow=arguments.follow, unit=arguments.unit):
            if screen.lost:
                return ""  # `pusher logs -f | head`: no reader is left, so stop as well
            if line is None or (not arguments.json and _is_noise(line)):
                continue
            if arguments.json:
                screen.document({**json.loads(line.to_line()), "address": client.host.name})
            else:
                unit = line.unit if line.pid is None else f"{line.unit}[{line.pid}]"
                screen.line(f"{moment(format_timestamp(line.time))}Z {unit}: {_STAMP.sub('', line.message)}")
        if arguments.follow:
            hint = "Follow it again when its agent is running"
            raise Unreachable(f"The agent of {client.host.name} ended the log", hint=hint)
        return ""

    return on_each(settings, screen, act)


def _is_noise(line: LogLine) -> bool:
    """Whether a line only says that a candidate, which nobody uses, goes to sleep as it was told to."""
    return line.unit == LogUnit.PREFLIGHT and _SLEEP.fullmatch(line.message) is not None


COMMAND = Command(
    name="logs",
    help="show the app's log, and what systemd says about its units",
    description="Shows the app's log, and what systemd says about its units, oldest line first.",
    options=_options,
    run=_run,
    reads=always,
)
