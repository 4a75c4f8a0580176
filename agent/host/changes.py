"""Waiting for the next change of something that many may watch.

Invariant: a change made after `next` was called is never missed, however long the watcher then takes to wait.
"""

import asyncio


class Changes:
    """Wakes everyone who waits, once a change. For the event loop only."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def next(self) -> asyncio.Event:
        """Set at the next change. Take it before reading the state, and wait for it after."""
        return self._next

    def announce(self) -> None:
        """Something has changed."""
        # A fresh event instead of set and clear: a watcher that has not run yet would miss a cleared one.
        announced, self._next = self._next, asyncio.Event()
        announced.set()
