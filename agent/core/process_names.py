"""The names of what `[processes]` and `[timers]` hold.

Invariant: a name leads to the names of units, and no two to the same one.
"""

import re
from collections.abc import Iterable, Mapping

NAME = re.compile(r"^[a-z][a-z0-9-]{0,30}$")
"""The name of a process or a timer."""

RESERVED = ("preflight", "hook", "build", "service", "socket")
"""Names with a meaning of their own, in the names of units or in the log."""


def numbered(name: str, number: int) -> str:
    """What one of several instances is called; the first has the name of its process."""
    return name if number == 1 else f"{name}-{number}"


def name_clash(processes: Mapping[str, int], timers: Iterable[str]) -> str:
    """Why these names cannot be used together, as a sentence; empty if they can. `processes` counts instances."""
    owners: dict[str, str] = dict.fromkeys(RESERVED, "the agent itself")
    every = [(f"the process {name!r}", name, count) for name, count in processes.items()]
    every += [(f"the timer {name!r}", name, 1) for name in timers]
    for owner, name, count in every:
        for unit in (numbered(name, number) for number in range(1, count + 1)):
            if unit in owners:
                return f"{owner} needs the name {unit!r}, which {owners[unit]} uses: choose another"
            owners[unit] = owner
    return ""
