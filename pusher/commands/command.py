"""A command of `pusher`: the words people read about it, the options it has, and the function that runs it."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from pusher.terminal.screen import Screen


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command. `options` declares its arguments; `run` carries it out and returns the exit code.

    `help` is its line in `pusher --help`, `description` the text in its own help. `reads` says whether its output
    is all it is for: if that cannot be written, the command has failed. With `rest`, what follows the first `--`
    is not read, and comes as `arguments.rest`.
    """

    name: str
    help: str
    description: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Screen], int]
    reads: Callable[[argparse.Namespace], bool] = lambda arguments: False
    rest: bool = False


def always(arguments: argparse.Namespace) -> bool:
    """True: for a command that only reads."""
    return True
