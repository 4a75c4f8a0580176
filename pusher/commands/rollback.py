"""`pusher rollback`: make an earlier release live again, and follow that to its end."""

import argparse
from collections.abc import Mapping
from functools import partial

from pusher.commands.answers import members
from pusher.commands.command import Command
from pusher.commands.confirm import add_confirm, confirm
from pusher.commands.options import add_options
from pusher.commands.several import add_rollout, rollout_options
from pusher.config import load
from pusher.errors import Interrupted, Unreachable
from pusher.fleet.fleet import clients_of
from pusher.fleet.follow import Live, follow_until_live, status_command
from pusher.fleet.rollout import ASKING_S, Rollout
from pusher.terminal.screen import Screen
from pusher.transport.client import Client
from pusher.wire import Code, Refused


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", default="", metavar="ID|VERSION", help="go back to this release instead")
    add_options(parser, "host", "app", "ssh")
    add_rollout(parser)
    add_confirm(parser)


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    with clients_of(settings) as clients:
        confirm(arguments, settings, doing=f"rolls back{f' to {arguments.to}' if arguments.to else ''}")
        rollout = Rollout(clients, screen, options=rollout_options(arguments))
        if rollout.several:
            rollout.ask(partial(_check, app=settings.app, to=arguments.to), doing="asking")
        return rollout.change(partial(_roll_back, app=settings.app, to=arguments.to), before={})


COMMAND = Command(
    name="rollback",
    help="go back to the release before",
    description="Goes back to the newest good release before the live one, and stays until it serves. With "
    "several hosts, none is changed if one of them cannot go back.",
    options=_options,
    run=_run,
)


def _check(client: Client, *, app: str, to: str) -> bool:
    """Ask a host whether a rollback can begin there. Raises: Problem, if not."""
    status = client.status(app, patience_s=ASKING_S)
    name, going = status.get("app"), status.get("deploying")
    if isinstance(going, Mapping):
        hint = f"To follow it: pusher status --deployment {going.get('deployment')} --follow"
        raise Refused(Code.BUSY, f"{going.get('by')} is deploying {going.get('version')} on {name}", hint=hint)
    hint = f"`pusher releases --host {client.host.name}` lists the releases"
    if to and not any(
        to in (one.get("id"), one.get("version")) for one in members(client.releases(app), "releases")
    ):
        raise Refused(Code.UNKNOWN_RELEASE, f"{name} has no release {to}", hint=hint)
    if not to and not status.get("previous"):
        raise Refused(Code.NOTHING_TO_ROLL_BACK_TO, f"{name} has no release to roll back to", hint=hint)
    return True


def _roll_back(client: Client, screen: Screen, *, app: str, to: str) -> Live:
    screen.line(f"rolling back {app or 'the app'} on {client.host.name}")
    hint = f"To see whether it began: {status_command(client.host.name)}"
    try:
        deployment = client.rollback(app, to=to)
    except KeyboardInterrupt as error:
        raise Interrupted(f"Interrupted while asking {client.host.name} to roll back. {hint}") from error
    except Unreachable as error:
        raise Unreachable(error.what, why=error.why, hint=f"{hint}. {error.hint}") from error
    return follow_until_live(client, deployment, screen)
