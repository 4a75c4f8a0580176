"""What a soak does, from a seed alone: episodes of points. Each is an action, and what goes wrong around it.

Invariant: the same seed gives the same plan. Episode k of the seed s is episode 0 of the seed s + k, so a failure
is replayed from a fresh host with a few points.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

EPISODE_POINTS = 25


@dataclass(frozen=True, slots=True)
class Tables:
    """What a place can do, and how often each is done compared with the others.

    `before` was done while no agent ran (on a booted host: just before). `during` happens in the middle: at one of
    the first `changes` changes of the disk or the journal (on a booted host: after so many fiftieths of a second).
    """

    actions: Mapping[str, int]
    before: Mapping[str, int]
    during: Mapping[str, int]
    changes: int


LOCAL = Tables(
    actions={
        "deploy": 8,
        "deploy with a failing hook": 4,
        "deploy of an unhealthy release": 2,
        "rollback": 4,
        "rollback to a named release": 2,
        "drop": 3,
        "send the last bundle once more": 1,
        "start": 2,
    },
    before={
        "": 20,
        "journal lost": 1,
        "journal truncated": 1,
        "journal of last week": 1,
        "current removed": 1,
        "current points nowhere": 1,
        "current is a file": 1,
        "current points at another release": 1,
        "live release edited": 1,
        "another release edited": 1,
        "another release removed": 1,
        "staging left": 1,
    },
    during={
        "": 6,
        "kill -9": 6,
        "kill -9, and once more in the recovery": 4,
        "power cut": 6,
        "power cut, and a part survives": 4,
        "a change fails": 4,
        "stopped": 2,
        "clock a year on": 2,
        "clock a year back": 2,
        "no bytes left": 3,
        "no inodes left": 3,
        "no descriptors left": 3,
    },
    changes=90,
)

BOOTED = Tables(
    actions={"deploy": 6, "deploy that cannot be imported": 2, "rollback": 4, "drop": 3, "nothing": 2},
    before={
        "": 12,
        "the service is masked": 2,
        "the socket is masked": 2,
        "no bus": 2,
        "no polkit rule": 1,
        "the app was killed": 2,
        "the app was stopped": 2,
        "journal lost": 1,
        "journal of last week": 1,
        "current removed": 1,
    },
    during={
        "": 4,
        "kill -9 of the agent": 6,
        "kill -9 of the app": 3,
        "power cut of the host": 5,
        "stop of the agent": 2,
        "reboot": 1,
    },
    changes=75,
)

AS_ROOT = frozenset({"no bytes left", "no inodes left"})


@dataclass(frozen=True, slots=True)
class Point:
    """One thing to try. `at` is the change at which `during` happens, `chance` the seed of its own choices."""

    number: int
    action: str
    before: str
    during: str
    at: int
    chance: int

    def __str__(self) -> str:
        at = f" (at change {self.at})" if self.during else ""
        return "; ".join(filter(None, (self.action, self.before, self.during + at)))


def episode(
    seed: int, *, tables: Tables = LOCAL, without: frozenset[str] = frozenset(), points: int = EPISODE_POINTS
) -> Iterator[Point]:
    """The points of one episode. `without`: what cannot be done here."""
    chance = random.Random(seed)
    yield Point(0, "deploy", "", "", 0, chance.randrange(2**32))
    for number in range(1, points):
        action, before, during = (_one(chance, kinds) for kinds in (tables.actions, tables.before, tables.during))
        at, own = chance.randint(1, tables.changes), chance.randrange(2**32)
        yield Point(number, action, before, "" if during in without else during, at, own)


def _one(chance: random.Random, kinds: Mapping[str, int]) -> str:
    names: Sequence[str] = list(kinds)
    return chance.choices(names, weights=list(kinds.values()))[0]
