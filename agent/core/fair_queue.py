"""Whose turn it is to be looked at, of more bundles' files than are looked at at a time.

Invariant: everybody has his turn, whatever others put beside him. Half of the places are for what changed last;
the other half goes round by the time of the last change, which the kernel writes and nobody can choose, so that
nobody pushes in. Only what was judged to be of no use, and has not changed since, is passed over; that spares work
and decides nothing: what is remembered of it may be lost at any time.
"""

from collections.abc import Collection, Mapping
from typing import Generic, Protocol, TypeVar


class Changed(Protocol):
    """What stands under a name; equal ones are the same. `changed` is when it came to be so."""

    @property
    def changed(self) -> int: ...


S = TypeVar("S", bound=Changed)


class FairQueue(Generic[S]):
    """Chooses at most `most` names at a time; remembers of at most `remembered` that they are of no use."""

    def __init__(self, *, most: int, remembered: int) -> None:
        self._most = most
        self._remembered = remembered
        self._useless: dict[str, S] = {}
        self._at = (0, "")
        self._renewed = True
        self._owed = 0

    @property
    def left(self) -> int:
        """How many more calls of `chosen` it takes until everybody has had his turn."""
        return -(-self._owed // (self._most // 2))

    def renew(self) -> None:
        """Something may be another: everybody has one turn more, beginning with the next call of `chosen`."""
        self._renewed = True

    def chosen(self, there: Mapping[str, S], *, held: Collection[str]) -> list[str]:
        """The names whose turn it is, of those that are `there`. Those `held` are looked at all the same."""
        self._useless = {name: stamp for name, stamp in self._useless.items() if there.get(name) == stamp}
        passed = self._useless.keys() | set(held)
        fresh = sorted((stamp.changed, name) for name, stamp in there.items() if name not in passed)
        self._owed = len(fresh) if self._renewed else min(self._owed, len(fresh))
        self._renewed = False
        if len(fresh) <= self._most:
            self._owed = 0
            return [name for _, name in fresh]
        half = self._most // 2
        after = [one for one in fresh if one > self._at]
        round_ = [*after, *fresh][:half]
        self._at = round_[-1]
        self._owed = max(0, self._owed - half)
        return [name for _, name in dict.fromkeys([*fresh[-half:], *round_])]

    def pass_over(self, name: str, stamp: S) -> None:
        """Choose it no more before it changes: as it stands there, it is of no use."""
        self._useless[name] = stamp
        if len(self._useless) > self._remembered:
            del self._useless[next(iter(self._useless))]
