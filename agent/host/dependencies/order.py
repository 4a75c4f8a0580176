"""One venv to be made: what is needed for it, and how it is carried out in a work folder.

Invariant: every command is uv's, runs in the work folder and reads nothing of a release but what was put there.
"""

import errno
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.core.work_folder import Source
from agent.host.ports import Lines

UNREACHABLE = re.compile(r"error sending request|client error \(Connect\)|dns error|operation timed out", re.I)
"""What uv says when an index cannot be reached."""

_NOT_FOUND = "exit code 127"

Run = Callable[[tuple[str, ...], Lines], Awaitable[tuple[str, str]]]
"""Runs a command in the work folder, with a taker for its lines.

Returns how it ended ("" if well), and its last lines.
"""


@dataclass(frozen=True, slots=True)
class Order:
    """What a builder gets: the command that makes an empty venv, and each attempt to fill it, in turn.

    `environment`: of uv, without its cache, which is the builder's own.
    """

    make: tuple[str, ...]
    attempts: Sequence[tuple[Source, tuple[str, ...]]]
    environment: Mapping[str, str]
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the decisive command `step` ended ("" if well), its last lines, and which source had everything."""

    ending: str
    said: str
    step: str
    source: Source | None = None


async def carry_out(order: Order, *, run: Run, clear: Callable[[], Awaitable[None]], line: Lines) -> Outcome:
    """Make the venv. `clear` takes away what an attempt has left. Raises: OSError, if uv cannot be run."""
    said, ending = "", ""
    for source, argv in order.attempts:
        if source is Source.CACHE and not UNREACHABLE.search(said):
            break
        # Anew for each attempt: uv may run the venv's interpreter, and would run with it the `.pth` files that
        # an attempt which broke off has left there.
        await clear()
        ending, heard = await found(run(order.make, line))
        if ending:
            return Outcome(ending, heard, "uv venv")
        # Only what decides is shown: that wheels/ or the cache lacks something is no news.
        held: list[str] = []
        live = source is Source.INDEX or len(order.attempts) == 1
        ending, heard = await found(run(argv, line if live else held.append))
        if not ending:
            for text in held:
                line(text)
            return Outcome("", heard, "uv pip install", source)
        said = heard if live or not said else said
    return Outcome(ending, said, "uv pip install")


async def found(running: Awaitable[tuple[str, str]]) -> tuple[str, str]:
    """As it came out, unless the program was not there. Raises: FileNotFoundError."""
    ending, said = await running
    if ending == _NOT_FOUND:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return ending, said
