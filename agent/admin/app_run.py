"""`pusher-agent app run`: run a command in the live release, as the app would: its user, environment and box."""

import argparse
import os
import shlex
import signal
from collections.abc import Sequence

from agent.admin.app_setup import config_of
from agent.admin.command import Command
from agent.admin.command_record import CommandRecord
from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.host.ports import Placed
from agent.host.releases.store import ReleaseStore
from agent.host.run.command import run_to_its_end, seen_as
from agent.host.run.launch import find_program, prepare_command
from agent.host.setup import app_user
from agent.host.setup.config_files import read_agent
from agent.host.systemd.one_off import run_in_unit
from pusher.wire import Code, Refused


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of the app")
    parser.add_argument(
        "words", nargs="*", metavar="-- COMMAND", help="a program of the release's venv, and its arguments"
    )


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    app, command = arguments.name, arguments.rest
    if arguments.words or not command or not command[0]:
        hint = f"For example: pusher-agent app run {app} -- flask shell"
        raise Refused(Code.BAD_REQUEST, "The command to run must follow `--`", hint=hint)
    embedded = read_agent(layout).service == "embedded"
    if not embedded and os.geteuid() != 0:
        hint = f"Use sudo: sudo pusher-agent app run {app} -- {shlex.join(command)}"
        raise Refused(Code.NOT_ALLOWED, "Only root can run commands of an app", why="they get its user", hint=hint)
    config = config_of(layout, app)
    if not app_user.exists(config.user):
        raise Refused(Code.CONFIGURATION, f"There is no user {config.user}", hint=f"pusher-agent app apply {app}")
    with seen_as(config.user):
        placed = _live(app, ReleaseStore(AppLayout(layout.beneath(config.path))))
        find_program(command[0], release=placed.path)
    record = CommandRecord(app, layout)
    record.begin(command, release=placed.release)
    code = 1
    try:
        if embedded:
            code = _run_here(app, command, config, placed, host=layout)
        else:
            code = run_in_unit(app, command, config, host=layout)
    finally:
        record.end(code)
    return code


COMMAND = Command(
    name="app run",
    help="run a command in the live release",
    description="Runs a command in the live release, as root: a program of its venv, with the user, environment "
    "and restrictions of the app. It has your terminal, ends when you do, and its exit code comes back.",
    options=_options,
    run=_run,
    rest=True,
)


def _live(app: str, store: ReleaseStore) -> Placed:
    """The live release. Raises: Refused(not_live)."""
    live = store.live()
    try:
        if live:
            return store.placed(live)
        why = "no release is live"
    except OSError as error:
        why = f"its live release {live} cannot be read ({error.strerror})"
    raise Refused(Code.NOT_LIVE, f"No command can be run in {app}", why=why, hint="Send one: pusher send VERSION")


def _run_here(app: str, command: Sequence[str], config: AppConfig, placed: Placed, *, host: HostLayout) -> int:
    """Run it as a child, where the agent is the parent of its apps: there are no units."""
    launch = prepare_command(app, command, config, placed, host=host)
    environment = dict(launch.environment)
    if terminal := os.environ.get("TERM"):
        environment.setdefault("TERM", terminal)
    at_terminal = any(os.isatty(descriptor) for descriptor in (0, 1, 2))
    return run_to_its_end(
        launch.argv,
        folder=launch.folder,
        environment=environment,
        apart=not at_terminal,
        # At a terminal, Ctrl-C has already reached it.
        interrupt=lambda pid: None if at_terminal else os.kill(pid, signal.SIGINT),
        end=lambda pid: os.kill(pid, signal.SIGTERM),
    )
