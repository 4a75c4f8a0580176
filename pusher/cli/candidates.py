"""Shell completion: what the word that is being typed could become.

Invariant: a candidate has only characters without a meaning to any shell; others are left out, because anybody can
choose the names of folders. Commands and options come from the parser, so they are always current.
"""

import argparse
import re
from collections.abc import Iterable, Sequence

from pusher.cli.parser import parser
from pusher.commands import NAMES
from pusher.errors import Usage
from pusher.wire import LogUnit

_HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@:/-]*|--?[a-z-]+", re.ASCII)


def candidates(words: Sequence[str]) -> list[str]:
    """What the last of `words` (perhaps empty) could become; none where the name of a file is expected."""
    # bash makes three words of --host=web1.
    *before, last = [word for word in words if word != "="] or [""]
    name = next((word for word in before if word in NAMES), None)
    found: Iterable[str]
    if name is None:
        found = (*NAMES, *_flags(parser([])))
    else:
        command = _command(name)
        if (option := command._option_string_actions.get(before[-1])) and option.nargs is None:
            found = _values(option)
        elif last.startswith("-"):
            found = _flags(command)
        else:
            found = (one for action in command._actions if not action.option_strings for one in _values(action))
    return sorted({one for one in found if one.startswith(last) and _HARMLESS.fullmatch(one)})


def _command(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    for action in parser([name])._actions:
        if isinstance(action, argparse._SubParsersAction):
            found: argparse.ArgumentParser = action.choices[name]
            return found
    raise RuntimeError("the parser has no commands")


def _flags(parser: argparse.ArgumentParser) -> Iterable[str]:
    return (flag for flag in parser._option_string_actions if flag.startswith("--"))


def _values(action: argparse.Action) -> Iterable[str]:
    """The values that an option or argument can have, if they can be listed."""
    if action.dest == "unit":
        return tuple(LogUnit)  # and processes, which only the host knows
    if action.choices is not None:
        return map(str, action.choices)
    if action.dest not in ("host", "env", "what"):
        return ()
    from pusher.bundle.source import versions
    from pusher.config import load
    from pusher.host_choice import ALL

    try:
        settings = load({})
    except Usage:
        return ()
    if action.dest == "what":
        return versions(settings.source)
    if action.dest == "env":
        return tuple(settings.environments)
    return (*settings.hosts, *settings.groups, *([ALL] if settings.hosts else ()))
