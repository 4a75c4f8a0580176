"""Fair scheduling when there are more bundle files than one scan examines.

Invariant: every file is examined sooner or later, whatever else lies beside it. Half of the places go to the files
that changed last. The other half goes round in the order of the last change: the kernel writes that time and
nobody can choose it, so nobody can jump the queue. Only rejected files are passed over, until they change. That
saves work and decides nothing: the memory of them may be lost at any time.
"""

from collections.abc import Collection, Mapping
from typing import Generic, Protocol, TypeVar


class Changed(Protocol):
    """What is known of a file without opening it. Equal ones mean the same file. `changed` is its last change."""

    @property
    def changed(self) -> int: ...


S = TypeVar("S", bound=Changed)


class FairQueue(Generic[S]):
    """Chooses at most `most` names at a time, and remembers at most `remembered` rejected files."""

    def __init__(self, *, most: int, remembered: int) -> None:
        self._most = most
        self._remembered = remembered
        self._rejected: dict[str, S] = {}
        self._at = (0, "")
        self._renewed = True
        self._owed = 0

    @property
    def left(self) -> int:
        """How many more calls of `choose` it takes until every file has been chosen."""
        return -(-self._owed // (self._most // 2))

    @property
    def rejected(self) -> int:
        """How many rejected files are remembered."""
        return len(self._rejected)

    def renew(self) -> None:
        """Something may have changed: from the next call of `choose` on, every file is chosen once more."""
        self._renewed = True

    def choose(self, files: Mapping[str, S], *, held: Collection[str]) -> list[str]:
        """The names to examine next, of all `files` there are. Those `held` are examined anyway, and left out."""
        self._rejected = {name: stamp for name, stamp in self._rejected.items() if files.get(name) == stamp}
        passed = self._rejected.keys() | set(held)
        waiting = sorted((stamp.changed, name) for name, stamp in files.items() if name not in passed)
        self._owed = len(waiting) if self._renewed else min(self._owed, len(waiting))
        self._renewed = False
        if len(waiting) <= self._most:
            self._owed = 0
            return [name for _, name in waiting]
        half = self._most // 2
        after = [one for one in waiting if one > self._at]
        round_ = [*after, *waiting][:half]
        self._at = round_[-1]
        self._owed = max(0, self._owed - half)
        return [name for _, name in dict.fromkeys([*waiting[-half:], *round_])]

    def reject(self, name: str, stamp: S) -> None:
        """Do not choose this file again before it changes: as it is, nothing can become of it."""
        self._rejected[name] = stamp
        if len(self._rejected) > self._remembered:
            del self._rejected[next(iter(self._rejected))]
