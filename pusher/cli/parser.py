"""The parser of the command line, made of the commands that are needed."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn, TextIO, cast

from pusher import __version__
from pusher.commands import NAMES
from pusher.terminal.output import write_result

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    from pusher.commands.command import Command

_EXIT_CODES = """exit codes: 0 done, 1 failed and undone, 2 wrong usage, 3 a bug in pusher, 4 refused,
5 unreachable, 6 stuck: a person is needed, 130 interrupted"""


def command(name: str) -> "Command":
    """The command of this name, imported now."""
    found: Command = import_module(f"pusher.commands.{name}").COMMAND
    return found


def parser(names: Sequence[str] = NAMES) -> argparse.ArgumentParser:
    """The parser of the command line, as far as these commands need it."""
    top = _Parser(
        prog="pusher",
        description="Sends releases of Python web applications to their hosts.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"pusher {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for one in map(command, names):
        one.options(commands.add_parser(one.name, help=one.help, description=one.description, allow_abbrev=False))
    return top


class _Parser(argparse.ArgumentParser):
    """Errors have the form of all errors here, and say where to read on."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"pusher: {message}\n  See: {self.prog} --help\n")

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        write_result(message, sys.stderr if file is None else cast(TextIO, file))
