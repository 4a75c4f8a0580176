"""`pusher run`: run a command in the live release of a host, through ssh and sudo.

Invariant: the agent's door has no part in it. What may run is decided by the rights of this person on that host.
"""

import argparse
import os
import shlex

from pusher.commands.command import Command
from pusher.commands.confirm import add_confirm, confirm
from pusher.commands.options import add_options
from pusher.config import load
from pusher.errors import Usage
from pusher.terminal.screen import Screen
from pusher.transport.hosts import Ssh, run_argv


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="-- COMMAND", help="a program of the release's venv, and its arguments"
    )
    add_options(parser, "host", "app", "ssh")
    add_confirm(parser)


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    if arguments.words or not arguments.rest:
        hint = "For example: pusher run --host web1 -- flask db current"
        raise Usage("The command to run must follow `--`", hint=hint)
    settings = load(vars(arguments))
    if len(settings.chosen) != 1:
        hint = "Name it with --host. For several hosts, run the command once for each"
        raise Usage("A command runs on one host", hint=hint)
    (host,), app = settings.chosen, settings.app_name()
    if not isinstance(host.address, Ssh):
        hint = f"On that machine: sudo pusher-agent app run {app} -- {shlex.join(arguments.rest)}"
        raise Usage(f"{host.name} is not reached by ssh", why="a command travels by no other way", hint=hint)
    confirm(arguments, settings, doing=f"runs `{shlex.join(arguments.rest)}`")
    words = ("pusher-agent", "app", "run", app, "--", *arguments.rest)
    # root needs no sudo, and a server may have none.
    command = words if host.address.user == "root" else ("sudo", *words)
    terminal = all(os.isatty(descriptor) for descriptor in (0, 1, 2))
    argv = run_argv(host.address, command, ssh=settings.ssh, terminal=terminal)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - ssh itself gets the terminal and the signals
    except OSError as error:
        raise Usage(f"{argv[0]} cannot be run", why=error.strerror or str(error)) from error


COMMAND = Command(
    name="run",
    help="run a command in the live release",
    description="Runs a command in the live release of a host, through ssh and sudo: a program of the release's "
    "venv, with the user, environment and restrictions of the app. It has your terminal, and its exit code comes "
    "back (255: ssh failed).",
    options=_options,
    run=_run,
    rest=True,
)
