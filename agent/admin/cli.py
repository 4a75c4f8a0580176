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

_GROUPS = {
    "door": "set up the addresses of the agent",
    "app": "set up, change and remove apps",
    "python": "list, add and remove Pythons for the apps",
    "repository": "serve a repository for hosts that fetch by themselves",
}


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names, by default that of the process; the exit code.

    Raises: Problem; SystemExit for --help, --version and arguments that are wrong.
    """
    argv = sys.argv[1:] if argv is None else [*argv]
    if argv and (unknown := _unknown(argv)):
        parser([]).exit(2, f"pusher-agent: {unknown}\n")
    needed = _needed(argv)
    takes_rest = len(needed) == 1 and command(needed[0]).rest and "--" in argv
    at = argv.index("--") if takes_rest else len(argv)
    arguments = parser(needed).parse_args(argv[:at], argparse.Namespace(rest=argv[at + 1 :]))
    word = getattr(arguments, f"{arguments.command}_command", "")
    name = f"{arguments.command} {word}".rstrip()
    return command(name).run(arguments, HostLayout(Path(os.path.abspath(arguments.root or "/"))))


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
    root.add_argument("--root", type=Path, metavar="DIR", help="use the files beneath DIR (default: /)")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    groups = {"": commands}
    for one in map(command, names):
        group, _, word = one.name.rpartition(" ")
        if group not in groups:
            groups[group] = commands.add_parser(group, help=_GROUPS[group]).add_subparsers(
                dest=f"{group}_command", required=True, metavar="COMMAND"
            )
        place = groups[group]
        one.options(place.add_parser(word, parents=[root], help=one.help, description=one.description))
    return top


def _unknown(argv: Sequence[str]) -> str:
    """What to say if the first words are no command; empty if they are one, or the parser will say more."""
    import difflib  # here: only a mistake needs it

    tops = dict.fromkeys(name.partition(" ")[0] for name in NAMES)
    word = argv[0]
    if word.startswith("-") or word in tops:
        return ""
    close = difflib.get_close_matches(word, tops, n=1)
    hint = f"Did you mean `pusher-agent {close[0]}`?" if close else f"Commands: {', '.join(tops)}"
    return f"pusher-agent has no command {word!r}\n  {hint}"


def _needed(argv: Sequence[str]) -> Sequence[str]:
    """The commands that the parser needs for these arguments: the one they name, or all."""
    words = argv[:2] if argv and argv[0] in _GROUPS else argv[:1]
    name = " ".join(words)
    return [name] if name in NAMES else [] if name == "--version" else NAMES
