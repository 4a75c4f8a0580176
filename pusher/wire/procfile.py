"""A Procfile, as Heroku and foreman read it: a line for each process, its name, a colon, its command."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from pusher.wire.text import WireError

PROCFILE = "Procfile"
"""Its name, at the top of a version."""

_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")


class ProcfileLine(NamedTuple):
    """A line: its number (from 1), the name of the process and its command."""

    number: int
    name: str
    command: str
    text: str


def procfile_lines(text: str) -> Iterator[ProcfileLine]:
    """The lines of a Procfile. Empty lines and comments (#) are left out.

    Raises: WireError, for a line of another form, or with a name that was there before.
    """
    found: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        whole = line.strip()
        if not whole or whole.startswith("#"):
            continue
        match = _LINE.fullmatch(whole)
        if match is None:
            raise WireError(f"line {number} cannot be used: {whole!r:.200}: a line is NAME: COMMAND")
        if match[1] in found:
            raise WireError(f"line {number} cannot be used: {whole!r:.200}: {match[1]!r} is there twice")
        found.add(match[1])
        yield ProcfileLine(number, match[1], match[2], whole)
