"""How many connections the callers of the door may have open, and how often they may open one.

Invariant: callers who are not operators never hold so many connections that a deployment finds no descriptor.
Operators have their own limit for each user, and nobody else counts against it.
"""

import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

from agent.core.allowance import Allowance
from pusher.wire import Code, Refused


class TooMany(Refused):
    """A connection that is one too many. `status` is that of the response."""

    def __init__(self, why: str, *, status: HTTPStatus) -> None:
        hint = "Close some of them, or try again in a moment"
        super().__init__(Code.BUSY, "The agent accepts no more connections now", why=why, hint=hint)
        self.status = status


class ConnectionQuota:
    """Counts connections by the uid of their caller; None is all anonymous callers together.

    `each`: open connections of one user. `others`: open connections of all who are not operators. `rate`: how
    many connections one of these may open in a second, `burst` how many at once. `elapsed` is a clock in seconds
    that never goes back.
    """

    def __init__(
        self, *, each: int, others: int, rate: float, burst: int, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self._each, self._others, self._rate = each, others, rate
        self._allowance = Allowance(rate=rate, burst=burst)
        self._elapsed = elapsed
        self._open: Counter[int | None] = Counter()
        self._others_open = 0

    def take(self, uid: int | None, *, operator: bool) -> Callable[[], None]:
        """Count a connection; call the result when it is closed. Raises: TooMany."""
        who = "anonymous callers" if uid is None else f"uid {uid}"
        if not operator and not self._allowance.spend(uid, now=self._elapsed()):
            why = f"{who} may open {self._rate:g} in a second"
            raise TooMany(why, status=HTTPStatus.TOO_MANY_REQUESTS)
        if self._open[uid] >= self._each:
            raise TooMany(f"{who} has {self._open[uid]} open", status=HTTPStatus.TOO_MANY_REQUESTS)
        if not operator and self._others_open >= self._others:
            why = f"callers who are not operators have {self._others_open} open; the rest is for operators"
            raise TooMany(why, status=HTTPStatus.SERVICE_UNAVAILABLE)
        self._open[uid] += 1
        self._others_open += not operator
        counted = True

        def release() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._open[uid] -= 1
                self._others_open -= not operator
                if not self._open[uid]:
                    del self._open[uid]

        return release
