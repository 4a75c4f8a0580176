"""TOML of a release, read in bounded time.

Invariant: what `tomllib` is given has no key of so many parts that it would take minutes and gigabytes for it. And
every number that comes out can be shown.
"""

import re
import tomllib
from typing import Any

from agent.core.requirements.requirement import unusable

DOTS_MOST = 200
"""So many dots a line may have. The time for a key grows with the square of its parts: 100,000 took 46 s."""

_LONG_NUMBER = re.compile(r"0[xob][0-9A-Fa-f_]{1000}")
"""tomllib refuses a long number only in tens, which Python cannot show (sys.set_int_max_str_digits)."""


def parse_toml(text: str, *, name: str) -> dict[str, Any]:
    """The table in `text`. Raises: Failed(dependencies_failed), naming `name`."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > DOTS_MOST:
            raise unusable(f"{name}, line {number}", why=f"it has more than {DOTS_MOST} dots")
        if _LONG_NUMBER.search(line):
            raise unusable(f"{name}, line {number}", why="it has a number of more than 1,000 digits")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also plain ones, for a number of too many digits
        raise unusable(name, why=str(error)) from error
