"""`pusher ignored`: the rules by which files are not packed, and which files of a version that are."""

import argparse

from pusher.bundle.ignore import BUILT, BUNDLE, IGNORE_NAME, LITTER, SECRETS, VERSION_CONTROL
from pusher.bundle.left_out import UNTRACKED, LeftOut
from pusher.bundle.source import Folder
from pusher.commands.command import Command, always
from pusher.commands.options import add_options, add_what
from pusher.commands.what import chosen
from pusher.config import load
from pusher.errors import Usage
from pusher.terminal.screen import Screen
from pusher.terminal.text import Table

_GROUPS = {
    "version control": VERSION_CONTROL,
    "built where it runs": BUILT,
    "editors and desktops": LITTER,
    "secrets": SECRETS,
    "bundles of pusher": (BUNDLE,),
}


def _options(parser: argparse.ArgumentParser) -> None:
    add_what(parser, files=False)
    add_options(parser, "app", "source", "json")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    found = chosen(arguments, load(vars(arguments)), dirty=True) if arguments.what else None
    if found is not None and not isinstance(found, Folder):
        raise Usage(f"{found.path} is a file", hint="Name a version, or a folder")
    left_out = found.read().left_out if found else ()
    if arguments.json:
        files = [{"path": one.path, "pattern": one.pattern or None, "own": one.own} for one in left_out]
        screen.document({"defaults": {name: list(patterns) for name, patterns in _GROUPS.items()}, "files": files})
        return 0
    if found is None:
        for name, patterns in _GROUPS.items():
            screen.line(f"{name}: {' '.join(patterns)}")
        screen.line(f"To pack one of them all the same, write it with a ! into {IGNORE_NAME}: !.env")
        return 0
    if left_out:
        screen.show(Table(("LEFT OUT", "BY"), [(one.path, _by(one)) for one in left_out]))
    else:
        screen.line(f"everything in {found.path} is packed")
    return 0


COMMAND = Command(
    name="ignored",
    help="list what is not packed, and by which rule",
    description="Lists the rules by which files are not packed; with a version or a folder, the files of it that "
    "are not packed, each with its rule.",
    options=_options,
    run=_run,
    reads=always,
)


def _by(one: LeftOut) -> str:
    if one.pattern == UNTRACKED:
        return "git does not track it"
    return f"{one.pattern} in {IGNORE_NAME}" if one.own else f"{one.pattern} (default)"
