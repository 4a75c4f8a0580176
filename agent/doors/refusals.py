"""The log of what the doors refuse: one event, `refused`, with the caller and the reason.

Invariant: a flood of refusals does not fill the log. Each caller has an allowance, and so has each kind of
refusal: strangers who are turned away by the thousand do not hide a bundle that was signed by the wrong key.
"""

import time
from collections import Counter
from collections.abc import Callable

import structlog

from agent.core.allowance import Allowance
from pusher.wire import Code, Problem

_log = structlog.get_logger()


class Refusals:
    """Logs refusals. `elapsed` is a clock in seconds that never goes back."""

    def __init__(self, *, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._elapsed = elapsed
        self._callers = Allowance(rate=0.1, burst=10)
        self._kinds = Allowance(rate=0.2, burst=30)
        self._left_out = 0
        self.counts: Counter[tuple[str, Code]] = Counter()
        """How many there were of each door and code: all of them, also those that are not logged.

        They are not kept over a restart. What strangers cause must not be written to the disk.
        """

    def note(self, problem: Problem, *, door: str, caller: str, **facts: str) -> None:
        """Log one refusal, or count it if there were too many. The next one that is logged has their number."""
        now = self._elapsed()
        self.counts[door, problem.code] += 1
        if not (self._callers.spend((door, caller), now=now) and self._kinds.spend(problem.code, now=now)):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        _log.warning(
            "refused",
            door=door,
            caller=caller,
            code=problem.code.value,
            reason=problem.what,
            **({"why": problem.why} if problem.why else {}),
            **facts,
            **({"left_out": left_out} if left_out else {}),
        )
