"""The processes that a Procfile names: root gives each a unit, the release says how it is started.

Invariant: every name can be that of a unit, or the line is refused by its number.
"""

import re

from agent.core.process_names import NAME, name_clash
from pusher.wire import Code, ProcfileLine, Refused, WireError, procfile_lines

_NOT_BESIDE = ("web", "release")
"""What serves, and what runs once before it: no processes of their own."""


def procfile_processes(text: str, *, file: str) -> tuple[str, ...]:
    """The names of its processes beside the one that serves. Raises: Refused(configuration), naming the line."""
    found: list[str] = []
    try:
        for line in procfile_lines(text):
            if line.name not in _NOT_BESIDE:
                _check_name(line, found, file)
                found.append(line.name)
    except WireError as error:
        raise Refused(Code.CONFIGURATION, f"{file} cannot be used", why=str(error)) from error
    return tuple(found)


def _check_name(line: ProcfileLine, before: list[str], file: str) -> None:
    what = f"{file}: line {line.number} cannot be used: {line.text!r:.200}"
    if not NAME.fullmatch(line.name):
        almost = re.sub(r"[^a-z0-9-]", "-", line.name.lower()).lstrip("-0123456789")
        hint = f"Call it {almost!r}" if NAME.fullmatch(almost) else ""
        raise Refused(Code.CONFIGURATION, what, why="a name has small letters, digits and -", hint=hint)
    if clash := name_clash({**dict.fromkeys(before, 1), line.name: 1}, ()):
        raise Refused(Code.CONFIGURATION, what, why=clash)
