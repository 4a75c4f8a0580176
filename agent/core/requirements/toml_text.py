"""TOML of a release, read in bounded time.

Invariant: what `tomllib` is given has no key of so many parts that it would take minutes and gigabytes for it.
"""

import tomllib
from typing import Any

from agent.core.requirements.requirement import unusable

DOTS_MOST = 200
"""So many dots a line may have. The time for a key grows with the square of its parts: 100,000 took 46 s."""


def parse_toml(text: str, *, name: str) -> dict[str, Any]:
    """The table in `text`. Raises: Failed(dependencies_failed), naming `name`."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > DOTS_MOST:
            raise unusable(f"{name}, line {number}", why=f"it has more than {DOTS_MOST} dots")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise unusable(name, why=str(error)) from error
