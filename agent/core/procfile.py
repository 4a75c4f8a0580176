"""A Procfile, as Heroku and foreman read it: a line for each process, its name, a colon, its command.

Invariant: every line is understood or refused by its number. No shell runs these commands, so one that needs a
shell is refused too: it would do something else than its author meant.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.process_names import NAME, name_clash
from pusher.wire import Code, Refused

_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")
_FOR_A_SHELL = re.compile(r"[$`|&;<>*?]|(?:^|\s)[A-Za-z_]\w*=")


@dataclass(frozen=True, slots=True)
class Procfile:
    """The commands: that of `web`, that of `release` (both empty if there is none), and all others by name."""

    web: str
    release: str
    processes: Mapping[str, str]


def parse_procfile(text: str, *, file: str) -> Procfile:
    """The commands of a Procfile. Empty lines and comments (#) are left out.

    Raises: Refused(configuration), naming `file` and the line.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise _wrong(file, number, line, why="a line is NAME: COMMAND")
        name, command = match[1], match[2]
        if not NAME.fullmatch(name):
            almost = re.sub(r"[^a-z0-9-]", "-", name.lower()).lstrip("-0123456789")
            hint = f"Call it {almost!r}" if NAME.fullmatch(almost) else ""
            raise _wrong(file, number, line, why="a name has small letters, digits and -", hint=hint)
        if name in found:
            raise _wrong(file, number, line, why=f"{name!r} is there twice")
        if name not in ("web", "release") and (clash := name_clash({**dict.fromkeys(found, 1), name: 1}, ())):
            raise _wrong(file, number, line, why=clash)
        _check_command(name, command, file, number, line)
        found[name] = command
    return Procfile(found.pop("web", ""), found.pop("release", ""), found)


def _check_command(name: str, command: str, file: str, number: int, line: str) -> None:
    try:
        shlex.split(command)
    except ValueError as error:
        raise _wrong(file, number, line, why=str(error)) from error
    if name == "release":
        return  # it becomes a hook, which a shell runs
    if shell := _FOR_A_SHELL.search(command):
        port = "the app gets its listening socket, so it needs no port" if "PORT" in command else ""
        hint = f"Write it without: {port}" if port else "Put it into a script of the app, or a hook"
        raise _wrong(file, number, line, why=f"no shell runs it, and {shell[0].strip()!r} needs one", hint=hint)


def _wrong(file: str, number: int, line: str, *, why: str, hint: str = "") -> Refused:
    what = f"{file}: line {number} cannot be used: {line.strip()!r:.200}"
    return Refused(Code.CONFIGURATION, what, why=why, hint=hint)
