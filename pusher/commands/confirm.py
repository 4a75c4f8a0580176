"""Asking a person before a command changes an environment that wants it (`confirm = true` in pusher.toml)."""

import argparse
import sys

from pusher.config import Settings
from pusher.errors import Usage
from pusher.terminal.output import write
from pusher.terminal.text import printable


def add_confirm(parser: argparse.ArgumentParser) -> None:
    """The option for those who have decided already, such as a program."""
    parser.add_argument("--yes", action="store_true", help="do not ask, where pusher.toml says confirm = true")


def confirm(arguments: argparse.Namespace, settings: Settings, *, doing: str) -> None:
    """Have the environment's name typed, if it wants that. `doing` is like "sends v3".

    Raises: Usage, if something else was typed, or if there is no terminal to ask at. Nothing was changed then.
    """
    name = settings.confirm
    if not name or arguments.yes:
        return
    hosts = ", ".join(host.name for host in settings.chosen)
    where = f"{name} ({hosts})" if hosts else name
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        hint = "A program that may do it without a person says --yes"
        raise Usage(f"{name} must be confirmed", why="there is no terminal to ask at", hint=hint)
    write(sys.stderr, printable(f"This {doing} in {where}. To go on, type {name}: "))
    if sys.stdin.readline().strip() != name:
        raise Usage(f"Nothing was changed in {name}", why="its name was not typed")
