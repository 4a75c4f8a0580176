"""What is counted of an app's deployments: how many ended how, and how long they and their steps took.

Invariant: counts only grow. Times are sorted into buckets by fixed bounds, so that a count that was kept stays
comparable; `BOUNDS_MS` gets new bounds only together with a new table in the journal.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

BOUNDS_MS = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000)
"""The upper bounds of the buckets, in milliseconds."""
ENDLESS = 2**53
"""The bound of the last bucket, which has none: JSON and SQLite both keep this number exactly."""


class Ending(NamedTuple):
    """How a deployment of a kind, or a step, ended. `name` is a `Kind` or a `Step`."""

    name: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Times:
    """How often something happened, by the bounds of its times, and how long all of it took, in milliseconds."""

    by_bound: Mapping[int, int] = field(default_factory=dict)
    ms: int = 0

    @property
    def count(self) -> int:
        """How often in all."""
        return sum(self.by_bound.values())

    def up_to(self) -> list[tuple[int, int]]:
        """Each bound, `ENDLESS` included, with how often it took at most so long."""
        found, so_far = [], 0
        for bound in (*BOUNDS_MS, ENDLESS):
            so_far += self.by_bound.get(bound, 0)
            found.append((bound, so_far))
        return found


@dataclass(frozen=True, slots=True)
class Tally:
    """The counts of one app. `last` is when a deployment last ended so, in milliseconds since 1970."""

    deployments: Mapping[Ending, Times] = field(default_factory=dict)
    steps: Mapping[Ending, Times] = field(default_factory=dict)
    last: Mapping[Ending, int] = field(default_factory=dict)


def bound_of(ms: int) -> int:
    """The bound of the bucket that a time belongs to."""
    at = bisect_left(BOUNDS_MS, ms)
    return BOUNDS_MS[at] if at < len(BOUNDS_MS) else ENDLESS


def times(rows: Iterable[tuple[str, str, int, int, int]]) -> dict[Ending, Times]:
    """Rows of name, outcome, bound, count and milliseconds, gathered by how it ended."""
    found: dict[Ending, Times] = {}
    for name, outcome, bound, count, ms in rows:
        ending = Ending(name, outcome)
        before = found.get(ending, Times())
        found[ending] = Times({**before.by_bound, bound: before.by_bound.get(bound, 0) + count}, before.ms + ms)
    return found
