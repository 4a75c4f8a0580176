"""`pusher pin`: keep a release, whatever its age."""

import argparse

from pusher.commands.command import Command
from pusher.commands.confirm import add_confirm, confirm
from pusher.commands.options import add_options
from pusher.config import load
from pusher.fleet.fleet import on_each
from pusher.terminal.screen import Screen
from pusher.transport.client import Client


def add_release(parser: argparse.ArgumentParser) -> None:
    """The release to pin or unpin, and the options of both commands."""
    parser.add_argument("release", metavar="ID", help="the id of a release, as `pusher releases` lists it")
    add_options(parser, "host", "app", "ssh")
    add_confirm(parser)


def set_pinned(arguments: argparse.Namespace, screen: Screen, *, pinned: bool) -> int:
    """Pin or unpin a release on each host; the exit code. Raises: Problem, Interrupted."""
    settings, release = load(vars(arguments)), arguments.release
    confirm(arguments, settings, doing=f"{'pins' if pinned else 'unpins'} {release}")

    def act(client: Client, screen: Screen) -> str:
        app = settings.app or str(client.status().get("app"))
        (client.pin if pinned else client.unpin)(app, release)
        result = f"{release} is {'pinned: it stays until you unpin it' if pinned else 'no longer pinned'}"
        screen.line(result)
        return result

    return on_each(settings, screen, act)


COMMAND = Command(
    name="pin",
    help="keep a release, whatever its age",
    description="Keeps a release, whatever its age: retention does not remove it.",
    options=add_release,
    run=lambda arguments, screen: set_pinned(arguments, screen, pinned=True),
)
