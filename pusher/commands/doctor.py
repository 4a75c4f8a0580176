"""`pusher doctor`: what keeps this machine and a server from working together, and what to do about it."""

import argparse

from pusher.commands.command import Command, always
from pusher.commands.options import add_options
from pusher.config import load
from pusher.terminal.screen import Screen
from pusher.wire import Refused


def _options(parser: argparse.ArgumentParser) -> None:
    add_options(parser, "host", "app", "key", "ssh")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    from pusher.setup.examination import examine
    from pusher.setup.remote import only_host

    settings, bad = load(vars(arguments)), 0
    for finding in examine(settings, only_host(settings)):
        screen.line(f"{'ok  ' if finding.well else 'BAD '}  {finding.sentence}")
        if finding.todo:
            screen.line(f"        {finding.todo}")
        bad += not finding.well
    screen.line(f"{bad} of these must be mended" if bad else "Everything is well")
    return Refused.exit_code if bad else 0


COMMAND = Command(
    name="doctor",
    help="find what keeps a host from taking releases",
    description="Looks at this machine and a host: ssh, key, versions, trust, units, rights, clock, disk, names, "
    "proxy, package index. Changes nothing. Says what to do about what is wrong, and then exits with 4.",
    options=_options,
    run=_run,
    reads=always,
)
