"""A command of `pusher-agent`: the words people read about it, its options, and the function that runs it."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from agent.core.layout import HostLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command. `options` declares its arguments except --root; `run` carries it out, for an exit code.

    With `rest`, what follows the first `--` is not read, and comes as `arguments.rest`.

    `help` is its line in the list of commands, `description` the text in its own help.
    """

    name: str
    help: str
    description: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, HostLayout], int]
    rest: bool = False


def no_options(parser: argparse.ArgumentParser) -> None:
    """For a command without arguments of its own."""
