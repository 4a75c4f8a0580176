"""The command line of `pusher-agent`: its parser, made of the commands that are needed, and running one."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from agent.admin import NAMES
from agent.admin.command import Command
from agent.core.layout import HostLayout


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names, by default that of the process; the exit code.

    Raises: Problem; SystemExit for --help, --version and arguments that are wrong.
    """
    argv = sys.argv[1:] if argv is None else [*argv]
    arguments = parser(_needed(argv)).parse_args(argv)
    name = f"app {arguments.app_command}" if arguments.command == "app" else arguments.command
    return command(name).run(arguments, HostLayout(Path(os.path.abspath(arguments.root))))


def command(name: str) -> Command:
    """The command of this name, imported now."""
    found: Command = import_module(f"agent.admin.{name.replace(' ', '_')}").COMMAND
    return found


def parser(names: Sequence[str] = NAMES) -> argparse.ArgumentParser:
    """The parser of the command line, as far as these commands need it."""
    top = argparse.ArgumentParser(
        prog="pusher-agent",
        description="Receives signed bundles, makes releases of them, and keeps one of them serving.",
    )
    top.add_argument("--version", action="version", version=f"pusher-agent {version('pusher-agent')}")
    root = argparse.ArgumentParser(add_help=False)
    root.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="use the files beneath DIR (default: /)"
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    apps = None
    for one in map(command, names):
        group, _, word = one.name.rpartition(" ")
        if group and apps is None:
            apps = commands.add_parser(group, help="set up, change and remove apps").add_subparsers(
                dest="app_command", required=True, metavar="COMMAND"
            )
        place = apps if group and apps else commands
        one.options(place.add_parser(word, parents=[root], help=one.help, description=one.description))
    return top


def _needed(argv: Sequence[str]) -> Sequence[str]:
    """The commands that the parser needs for these arguments: the one they name, or all."""
    words = argv[:2] if argv[:1] == ["app"] else argv[:1]
    name = " ".join(words)
    return [name] if name in NAMES else [] if name == "--version" else NAMES
