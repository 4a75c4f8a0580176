"""A pool of threads for several hosts: at most so many at a time, a thread for each.

Invariant: after Ctrl-C, no host is waited for. Work that has begun must give up, and has a moment to say what goes
on without it. Work that has not begun never begins.
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
class Result(Generic[_T]):
    """The result of one piece of work: its `value`, or the `error` that ended it. Or it has never `begun`."""

    begun: bool = False
    value: _T | None = None
    error: BaseException | None = None
    seconds: float = 0.0

    @property
    def interrupted(self) -> bool:
        return isinstance(self.error, KeyboardInterrupt)


def run_pool(
    works: Sequence[Callable[[], _T]],
    *,
    at_once: int,
    abandon: Callable[[], None],
    enough: Callable[[Result[_T]], bool] = lambda result: False,
) -> tuple[list[Result[_T]], bool]:
    """Run the works in their order, `at_once` at a time. The result of each, and whether Ctrl-C ended it.

    After a result that is `enough`, no more work begins. `abandon` must make every running work end with
    KeyboardInterrupt. Raises: what a work raised other than Problem and KeyboardInterrupt, once all have ended.
    """
    results: list[Result[_T]] = [Result() for _ in works]
    waiting, ended = deque(range(len(works))), SimpleQueue[int]()
    running: set[int] = set()
    interrupted = False
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.add(at := waiting.popleft())
                _begin(works[at], results[at], lambda at=at: ended.put(at))  # type: ignore[misc]
            running.discard(at := ended.get())
            if enough(results[at]):
                waiting.clear()
    except KeyboardInterrupt:
        interrupted = True
        _leave(running, results, ended, abandon)
    for result in results:
        if result.error is not None and not isinstance(result.error, Problem | KeyboardInterrupt):
            raise result.error
    return results, interrupted


def _begin(work: Callable[[], _T], result: Result[_T], end: Callable[[], None]) -> None:
    def run() -> None:
        began = time.monotonic()
        try:
            result.value = work()
        except BaseException as error:
            result.error = error
        result.seconds = time.monotonic() - began
        end()

    result.begun = True
    # A daemon thread: a host that does not answer must not keep the command from ending.
    threading.Thread(target=run, daemon=True).start()


def _leave(
    running: set[int], results: Sequence[Result[_T]], ended: "SimpleQueue[int]", abandon: Callable[[], None]
) -> None:
    """Wait for running work for `_LEAVING_S`, or until the next Ctrl-C."""
    until = time.monotonic() + _LEAVING_S
    try:
        abandon()
        while running:
            running.discard(ended.get(timeout=max(0.0, until - time.monotonic())))
    except (Empty, KeyboardInterrupt):
        for at in running:
            results[at].error = Interrupted("Interrupted; the result is not known")
