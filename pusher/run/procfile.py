"""The Procfile of a version, as its run section.

Invariant: a line becomes what its author meant, or is refused by its number. No shell runs these commands, except
`release`. So a command that needs a shell is refused.
"""

import re
import shlex
from pathlib import Path

from pusher.errors import Usage
from pusher.run.build import find_build
from pusher.run.servers import listening
from pusher.wire import (
    PROCESS_NAME,
    PROCFILE,
    ProcfileLine,
    RunProcess,
    RunSection,
    WireError,
    procfile_lines,
    split_command,
)

_FOR_A_SHELL = re.compile(r"[`|&;<>*?]|\$(?!PORT\b|\{PORT)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.")
_COMMENT = re.compile(r"(?:^|\s)#")
_PORT = re.compile(r"\$(?:PORT\b|\{PORT)")


def read_procfile(folder: Path) -> RunSection | None:
    """What the Procfile of a folder says; None if there is none. Raises: Usage, naming the line.

    The commands before the server in the line `web` (`a; b && server`) run once for each release: what makes files
    is a build step, the rest belongs to `release`. An unknown server listens where the variable PORT says.
    """
    file = folder / PROCFILE
    try:
        text = file.read_text("utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Usage(f"{file} cannot be read", why=why or str(error)) from error
    try:
        lines = {line.name: line for line in procfile_lines(text)}
    except WireError as error:
        raise Usage(f"{file}: {error}") from error
    release, web = lines.pop("release", None), lines.pop("web", None)
    before: list[str] = []
    start = None
    if web:
        *before, last = _sequence(web.command)
        start = listening(_words(file, web._replace(command=last)), unknown="port")
    steps = find_build(folder, before)
    processes = {line.name: _process(file, line) for line in lines.values()}
    once = [one for one in before if one not in steps.commands]
    if release:
        if once:  # they would be a part of the comment
            _check_comment(file, release, release.command)
        once = [release.command, *once]
    made = RunSection(
        start=shlex.join(start.words) if start else "",
        listen_via=start.via if start and start.via != "socket" else "",
        release=" && ".join(once),
        build=steps.commands,
        build_paths=steps.paths,
        processes=processes,
    )
    try:
        return RunSection.from_members(made.members())
    except WireError as error:
        raise Usage(f"{file} cannot be used", why=str(error)) from error


def _sequence(command: str) -> list[str]:
    """The commands of a line in their order, where it only says "one after the other"."""
    parts = [part.strip() for part in re.split(r"&&|;", command)]
    simple = all(part and not _FOR_A_SHELL.search(part) and _is_whole(part) for part in parts)
    return parts if simple else [command]


def _is_whole(part: str) -> bool:
    try:
        return bool(split_command(part))
    except WireError:
        return False


def _process(file: Path, line: ProcfileLine) -> RunProcess:
    """A process beside the one that serves. Raises: Usage."""
    if not PROCESS_NAME.fullmatch(line.name):
        almost = re.sub(r"[^a-z0-9-]", "-", line.name.lower()).lstrip("-0123456789")
        hint = f"Call it {almost!r}" if PROCESS_NAME.fullmatch(almost) else ""
        raise Usage(_unusable(file, line), why="a name has small letters, digits and -", hint=hint)
    words = _words(file, line)
    if _PORT.search(line.command):
        hint = "Write the port itself"
        raise Usage(_unusable(file, line), why="only `web` is given a port", hint=hint)
    return RunProcess(start=shlex.join(words))


def _check_comment(file: Path, line: ProcfileLine, command: str) -> None:
    """Raises: Usage, if a shell would leave out the end of the command."""
    if _COMMENT.search(_QUOTED.sub("x", command)):
        why = "its comment would become a part of the command"
        raise Usage(_unusable(file, line), why=why, hint="Give the comment a line of its own")


def _unusable(file: Path, line: ProcfileLine) -> str:
    return f"{file}: line {line.number} cannot be used: {line.text!r:.200}"


def _words(file: Path, line: ProcfileLine) -> tuple[str, ...]:
    """Its command. What only tells a shell to become the program is left out. Raises: Usage."""
    what, command = _unusable(file, line), line.command.removeprefix("exec ")
    try:
        words = split_command(command)
    except WireError as error:
        raise Usage(what, why=str(error)) from error
    if _ASSIGNMENT.match(words[0]):
        hint = "Put it into the app's environment file on the host (environment_file)"
        raise Usage(what, why=f"no shell runs it, and {words[0]!r} is for one", hint=hint)
    _check_comment(file, line, command)
    if shell := _FOR_A_SHELL.search(command):
        hint = "Put it into a script of the version"
        raise Usage(what, why=f"no shell runs it, and {shell[0]!r} needs one", hint=hint)
    return words
