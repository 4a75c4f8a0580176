"""Pauses between attempts: each one twice as long as the last, up to a longest.

Invariant: pure arithmetic. The caller waits, by a `Clock`.
"""


class Backoff:
    """The pauses, in seconds: `first`, then doubled each time, never more than `longest`."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._coming = first

    @property
    def coming(self) -> float:
        """The pause that `next` returns."""
        return self._coming

    def next(self) -> float:
        """The pause to make now; the one after it is longer."""
        pause = self._coming
        self._coming = min(2 * pause, self._longest)
        return pause

    def reset(self) -> None:
        """Begin with the first pause again: the last attempt went well."""
        self._coming = self._first
