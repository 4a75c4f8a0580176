"""Parts of the machine that end their process at a chosen change: a mark in the journal, or the n-th on a disk."""

import os
import signal
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from agent.host.storage.database import Database
from agent.host.storage.disk import Disk

Result = TypeVar("Result")


def die() -> None:
    """End this process as nothing can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)


class Dying(Database):
    """Ends its process when a mark has been written, before it is durable."""

    durable = False
    end = staticmethod(die)

    async def write(self, change: Callable[[sqlite3.Connection], Result]) -> Result:
        marks: list[bool] = []

        def watched(db: sqlite3.Connection) -> Result:
            db.set_trace_callback(lambda sql: marks.append("into marks" in sql))
            result = change(db)
            db.set_trace_callback(None)
            if any(marks) and not self.durable:
                self.end()
            return result

        result = await super().write(watched)
        if any(marks):
            self.end()
        return result


class DyingLater(Dying):
    """Ends its process when a mark is durable, before anything follows from it."""

    durable = True


class DyingDisk(Disk):
    """Ends its process at its n-th change."""

    def __init__(self, at: int, end: Callable[[], None] = die) -> None:
        super().__init__()
        self._left = at
        self._end = end

    def _at(self, op: str) -> None:
        self._left -= 1
        if not self._left:
            self._end()
