"""How often somebody may do something: so many at once, then so many in a second.

Invariant: who has spent nothing for long is forgotten, so strangers cannot fill the memory.
"""

from collections.abc import Hashable

_REMEMBERED = 1_000


class Allowance:
    """What each has left, by any key: `burst` at most, and `rate` more in each second."""

    def __init__(self, *, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._left: dict[Hashable, tuple[float, float]] = {}
        """How much a key has left, and the time at which that was so."""

    def spend(self, key: Hashable, *, now: float) -> bool:
        """Take one of what is left at `now` (seconds). False if there is none."""
        if len(self._left) > _REMEMBERED:
            full = self._burst / self._rate
            self._left = {one: left for one, left in self._left.items() if now - left[1] < full}
        left, since = self._left.get(key, (float(self._burst), now))
        left = min(float(self._burst), left + (now - since) * self._rate)
        self._left[key] = (left - 1 if left >= 1 else left, now)
        return left >= 1
