"""Running a command: its arguments, its output, its exit code.

Invariant: only the command that runs is imported. `pusher --version` imports none.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pusher.cli.parser import command, parser
from pusher.commands import NAMES
from pusher.terminal.output import write_result

if TYPE_CHECKING:
    from pusher.commands.command import Command
    from pusher.errors import Usage
    from pusher.terminal.screen import Screen


def run(argv: Sequence[str]) -> int:
    """Run the command that `argv` names; the exit code.

    Raises: Problem, Interrupted; SystemExit for --help, --version and arguments that are wrong.
    """
    first = argv[0] if argv else ""
    if first == "__complete":
        from pusher.cli.candidates import candidates

        write_result("\n".join(candidates(argv[1:])) + "\n")
        return 0
    if first not in NAMES:
        if first and not first.startswith("-"):
            raise _unknown(first)
        if first and first not in ("-h", "--help", "--version"):
            raise _unknown_option(first)
        parser([] if first == "--version" else NAMES).parse_args(argv)
        raise RuntimeError("the parser accepted arguments without a command")
    at = argv.index("--") if command(first).rest and "--" in argv else len(argv)
    arguments, extra = parser([first]).parse_known_args(argv[:at], argparse.Namespace(rest=[*argv[at + 1 :]]))
    if extra:
        raise _superfluous(extra[0], first)

    from pusher.terminal.screen import Screen

    screen = Screen()
    try:
        exit_code = command(first).run(arguments, screen)
    finally:
        screen.clear()
    return _with_lost_output(exit_code, screen, command(first), arguments)


def _unknown(word: str) -> "Usage":
    """The problem of a command that there is not."""
    import difflib  # here: only a mistake needs it

    from pusher.errors import Usage

    close = difflib.get_close_matches(word, NAMES, n=1)
    hint = f"Did you mean `pusher {close[0]}`?" if close else f"Commands: {', '.join(NAMES)}"
    return Usage(f"pusher has no command {word!r}", hint=hint)


def _unknown_option(word: str) -> "Usage":
    """The problem of an option where a command must be."""
    from pusher.errors import Usage

    hint = "Options follow the command, as in `pusher send v3 --host web1`. See: pusher --help"
    return Usage(f"pusher has no option {word!r}", hint=_meant(word, ["--help", "--version"]) or hint)


def _superfluous(word: str, name: str) -> "Usage":
    """The problem of a word that a command has no use for."""
    from pusher.errors import Usage

    known = argparse.ArgumentParser()
    command(name).options(known)
    see = f"See: pusher {name} --help"
    if not word.startswith("-"):
        return Usage(f"`pusher {name}` has no use for {word!r}", why="there is a word too many", hint=see)
    flags = [flag for action in known._actions for flag in action.option_strings]
    return Usage(f"`pusher {name}` has no option {word!r}", hint=_meant(word, flags) or see)


def _meant(word: str, known: Sequence[str]) -> str:
    """Which of the known words was probably meant, as a question; empty if none is like it."""
    import difflib

    close = difflib.get_close_matches(word.partition("=")[0], known, n=1)
    return f"Did you mean {close[0]}?" if close else ""


def _with_lost_output(exit_code: int, screen: "Screen", command: "Command", arguments: argparse.Namespace) -> int:
    """The exit code of a command whose output may be lost. Raises: Unwritten, if the command was for its output.

    A closed pipe is no loss: the reader has enough.
    """
    if screen.lost is None or isinstance(screen.lost, BrokenPipeError):
        return exit_code
    from pusher.errors import Unwritten
    from pusher.terminal.screen import print_problem

    if command.reads(arguments) and not exit_code:
        raise Unwritten(screen.lost)
    # Its work is done, although its output is lost.
    print_problem(Unwritten(screen.lost, hint="The exit code says how the command ended"))
    return exit_code
