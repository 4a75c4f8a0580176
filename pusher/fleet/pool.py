"""Work for several hosts: so many at a time, each in a thread of its own.

Invariant: Ctrl-C waits for no host. Who has begun is told to leave off and heard out for a moment, for it knows
what goes on without us; who has not begun does not begin any more.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from pusher.errors import Interrupted
from pusher.wire import Problem

_LEAVING_S = 3.0

_T = TypeVar("_T")


@dataclass(slots=True)
class Turn(Generic[_T]):
    """What became of one piece of work: its `value`, or the `error` that ended it; or it was never `begun`."""

    begun: bool = False
    value: _T | None = None
    error: BaseException | None = None
    seconds: float = 0.0

    @property
    def interrupted(self) -> bool:
        return isinstance(self.error, KeyboardInterrupt)


def take_turns(
    works: Sequence[Callable[[], _T]],
    *,
    at_once: int,
    abandon: Callable[[], None],
    enough: Callable[[Turn[_T]], bool] = lambda turn: False,
) -> tuple[list[Turn[_T]], bool]:
    """Do the works in their order, `at_once` at a time; what became of each, and whether Ctrl-C ended it.

    After a turn that is `enough` nothing more is begun. `abandon` makes all that wait in a work give up with
    KeyboardInterrupt. Raises: what a work raised that is neither a Problem nor that, once all have ended.
    """
    turns: list[Turn[_T]] = [Turn() for _ in works]
    waiting, ended = deque(range(len(works))), SimpleQueue[int]()
    running: set[int] = set()
    interrupted = False
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.add(at := waiting.popleft())
                _begin(works[at], turns[at], lambda at=at: ended.put(at))  # type: ignore[misc]
            running.discard(at := ended.get())
            if enough(turns[at]):
                waiting.clear()
    except KeyboardInterrupt:
        interrupted = True
        _leave(running, turns, ended, abandon)
    for turn in turns:
        if turn.error is not None and not isinstance(turn.error, Problem | KeyboardInterrupt):
            raise turn.error
    return turns, interrupted


def _begin(work: Callable[[], _T], turn: Turn[_T], end: Callable[[], None]) -> None:
    def run() -> None:
        began = time.monotonic()
        try:
            turn.value = work()
        except BaseException as error:
            turn.error = error
        turn.seconds = time.monotonic() - began
        end()

    turn.begun = True
    # A daemon: a host that does not answer must not keep the command from ending.
    threading.Thread(target=run, daemon=True).start()


def _leave(
    running: set[int], turns: Sequence[Turn[_T]], ended: "SimpleQueue[int]", abandon: Callable[[], None]
) -> None:
    """Hear out those who have begun, for `_LEAVING_S` or until the next Ctrl-C."""
    until = time.monotonic() + _LEAVING_S
    try:
        abandon()
        while running:
            running.discard(ended.get(timeout=max(0.0, until - time.monotonic())))
    except (Empty, KeyboardInterrupt):
        for at in running:
            turns[at].error = Interrupted("Interrupted; what it came to is not known")
