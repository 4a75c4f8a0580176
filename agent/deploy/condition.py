"""How an app does at this moment: whether it answers as [health] says, and how much room its disk has.

Invariant: nothing here changes anything, or decides anything: a deployment asks for itself. However many people
look at once, the app gets one request at a time, and one in a second.
"""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.core.config.app import Health
from agent.host.ports import Clock, Running, Service
from agent.host.run.health import Asking
from pusher.wire import format_timestamp

_FRESH_S = 1.0
_MOST_S = 5.0


class Condition:
    """The condition of one app, whose files lie beneath `folder`. `health` returns the [health] in force."""

    def __init__(self, health: Callable[[], Health], *, folder: Path, service: Service, clock: Clock) -> None:
        self._health = health
        self._folder = folder
        self._service = service
        self._clock = clock
        self._asking = asyncio.Lock()
        self._last: tuple[float, Running | None, dict[str, Any]] | None = None

    async def health(self) -> dict[str, Any]:
        """What the app answers now: `healthy` (null if nothing runs), `why` it is not, `ms` it took, and when."""
        async with self._asking:
            running = self._service.running()
            # What another process answered a moment ago, before a restart, is no answer of this one.
            if (
                self._last is None
                or self._last[1] is not running
                or self._clock.elapsed() - self._last[0] >= _FRESH_S
            ):
                answer = await self._ask(running)
                self._last = self._clock.elapsed(), running, answer
            return self._last[2]

    async def disk(self) -> dict[str, Any] | None:
        """The bytes that are free, and all, where the app's releases lie; None if that cannot be told."""
        try:
            usage = await asyncio.to_thread(lambda: shutil.disk_usage(_existing(self._folder)))
        except OSError:
            return None
        return {"path": str(self._folder), "free": usage.free, "total": usage.total}

    async def _ask(self, running: Running | None) -> dict[str, Any]:
        began, asked = self._clock.elapsed(), format_timestamp(self._clock.now())
        if running is None:
            return {"healthy": None, "why": "nothing runs", "ms": 0, "asked": asked}
        health = self._health()
        asking = Asking(running, health, version=running.placed.version)
        limit_s = min(health.deadline_s, _MOST_S)
        task, limit = asyncio.ensure_future(asking.ask()), asyncio.ensure_future(self._clock.sleep(limit_s))
        try:
            await asyncio.wait({task, limit}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
            limit.cancel()
            await asyncio.gather(task, limit, return_exceptions=True)
        finding = asking.finding
        why = "" if finding is None else finding.why
        if finding is not None and not finding.answered:
            why = f"it did not answer within {limit_s:g} s"
        ms = round((self._clock.elapsed() - began) * 1000)
        return {"healthy": finding is None, "why": why, "ms": ms, "asked": asked}


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there: before the first deployment it may not be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
