"""Work in the background, while there is something else to do."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")
_LEAVING_S = 2.0
_begun: list[threading.Thread] = []


class Background(Generic[_T]):
    """A call that runs in a thread of its own. (Importing `concurrent.futures` takes longer than the work.)"""

    def __init__(self, work: Callable[[], _T]) -> None:
        self._work = work
        self._results: list[_T] = []
        self._error: BaseException | None = None
        # A daemon thread: a host that does not answer must not keep the command from ending.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        _begun.append(self._thread)

    def result(self) -> _T:
        """Wait for the return value. Raises: what the call raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:
            self._error = error


def leave() -> None:
    """Give what still runs a moment to take its files away, after what it waits for was ended."""
    until = time.monotonic() + _LEAVING_S
    for thread in _begun:
        thread.join(max(0.0, until - time.monotonic()))
