"""`pusher cancel`: end a deployment of which nothing is live yet."""

import argparse

from pusher.commands.command import Command
from pusher.commands.options import add_options
from pusher.config import load
from pusher.fleet.fleet import on_each
from pusher.fleet.follow import follow
from pusher.terminal.screen import Screen
from pusher.transport.client import Client
from pusher.wire import Code, Problem, Refused


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--deployment", default="", metavar="ID", help="only if it is this deployment")
    add_options(parser, "host", "app", "ssh")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))

    def act(client: Client, screen: Screen) -> str:
        deployment = client.cancel(settings.app, deployment=arguments.deployment)
        try:
            data = follow(client, deployment, screen)
        except Problem as problem:
            if problem.code is not Code.INTERRUPTED or problem.exit_code != 1:
                raise
            screen.line(f"cancelled on {client.host.name}: deployment {deployment}")
            return "cancelled"
        raise Refused(
            Code.TOO_LATE,
            f"Deployment {deployment} was not cancelled on {client.host.name}",
            why=f"{data.get('app')} {data.get('version')} is live",
            hint="To go back: pusher rollback",
        )

    return on_each(settings, screen, act, grouped=False)


COMMAND = Command(
    name="cancel",
    help="end a deployment of which nothing is live yet",
    description="Ends the deployment that is under way, if nothing of it is live yet, and stays until it is taken "
    "back. What is going live cannot be cancelled: it proves itself, or is taken back by itself.",
    options=_options,
    run=_run,
)
