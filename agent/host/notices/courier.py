"""The courier: what waits in the queue of notices is delivered, the oldest first, each way on its own.

Invariant: nobody waits for the courier, and it wakes for a new notice or the end of a pause only. What it knows is
in the journal: neither a restart nor `kill -9` loses a notice, or shortens a pause that a receiver asked for.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from agent.core.notice import KEPT_MS, Ending, Notice, ending, pause_s
from agent.host.net.outward import LONGEST_S
from agent.host.notices.way import Undelivered, Way
from agent.host.ports import Clock
from agent.host.storage.deployments import Record
from agent.host.storage.journal import Journal
from agent.host.storage.notices import WayState
from pusher.wire import Problem, format_timestamp

_log = structlog.get_logger()
_UNREADABLE_S = 60.0
"""The pause after the journal could not be used."""


class Courier:
    """Delivers the notices of a host, which is named `host`, by `ways`. It starts and stops like a door.

    `chance` returns a number from 0 to 1, for pauses that differ between hosts.
    """

    def __init__(
        self,
        ways: Mapping[str, Way],
        *,
        host: str,
        journal: Journal,
        clock: Clock,
        chance: Callable[[], float] = random.random,  # noqa: S311 - pauses, no secrets
    ) -> None:
        self._ways = ways
        self._host = host
        self._journal = journal
        self._queue = journal.notices
        self._clock = clock
        self._chance = chance
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Deliver from now on what waits, and what comes. Raises: Failed, if the journal cannot be written."""
        await self._queue.keep_ways()
        self._tasks = [
            asyncio.create_task(self._serve(name, way), name=f"notices by {name}")
            for name, way in self._ways.items()
        ]

    async def stop(self) -> None:
        """Deliver nothing more. What is left waits for the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def summary(self) -> list[dict[str, Any]]:
        """How each way stands, as JSON members. Raises: Failed."""
        return [_members(name, way, await self._queue.state(name)) for name, way in self._ways.items()]

    async def test(self) -> list[dict[str, Any]]:
        """Send a notice that says it is a test, by each way and at once; how that went. Raises: Failed.

        A way by which it arrives is used again at once, whatever it was waiting for.
        """
        now = self._clock.now()
        notice = Notice(
            id=f"test-{now}", host=self._host, ending=Ending.TEST, app="", version="", time=now, started=now
        )
        found = []
        for name, way in self._ways.items():
            try:
                await way.deliver(notice)
            except Undelivered as problem:
                found.append({"way": name, "address": way.address, "problem": str(problem)})
            else:
                await self._queue.mend(name)
                found.append({"way": name, "address": way.address, "problem": ""})
        return found

    async def _serve(self, name: str, way: Way) -> None:
        broken = False
        while True:
            added = self._queue.added()
            try:
                pause = await self._deliver_oldest(name, way)
                broken = False
            except Problem as problem:
                if not broken:
                    _log.error("notices_unreadable", way=name, problem=str(problem))
                broken, pause = True, _UNREADABLE_S
            if pause != 0:
                await self._wait(added, pause)

    async def _wait(self, added: asyncio.Event, pause: float | None) -> None:
        """Return when `added` is set, or after the pause, if there is one."""
        waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(added.wait())]
        if pause is not None:
            waiting.append(asyncio.ensure_future(self._clock.sleep(pause)))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _deliver_oldest(self, name: str, way: Way) -> float | None:
        """Try to deliver one notice, if it is due. How long to wait then; None: until the next one comes."""
        oldest = await self._queue.oldest(name)
        if oldest is None:
            return None
        number, deployment = oldest
        state, now = await self._queue.state(name), self._clock.now()
        left = (state.due - now) / 1000
        if 0 < left <= 2 * LONGEST_S:  # more: the clock was set back since
            return left
        record = await self._journal.deployment(deployment)
        if record is None or record.finished is None or now - record.finished > KEPT_MS:
            await self._give_up(name, number, deployment, state.problem or "it was too old")
            return 0
        try:
            await self._deliver(way, self._notice(record, record.finished))
        except Undelivered as problem:
            if problem.final:
                await self._give_up(name, number, deployment, str(problem))
                return 0
            pause = pause_s(state.failures + 1, chance=self._chance(), asked_s=problem.retry_after_s)
            due = self._clock.now() + int(pause * 1000)
            await self._queue.failed(name, problem=str(problem), now=now, due=due)
            if not state.failures:
                _log.warning("notice_undelivered", way=name, deployment=deployment, problem=str(problem))
            return pause
        await self._queue.delivered(name, number)
        _log.info("notice_delivered", way=name, deployment=deployment)
        return 0

    async def _deliver(self, way: Way, notice: Notice) -> None:
        """As the way does it. A bug of ours is a failure as any other: the queue must go on."""
        try:
            await way.deliver(notice)
        except Undelivered:
            raise
        except Exception as error:
            await asyncio.to_thread(_log.error, "notice_broken", deployment=notice.id, exc_info=error)
            why = f"{type(error).__name__}: {error}"
            raise Undelivered("The agent met a bug of its own", why=why, hint="Please report it") from error

    async def _give_up(self, name: str, number: int, deployment: str, problem: str) -> None:
        await self._queue.give_up(name, number, problem=problem)
        _log.error("notice_left_out", way=name, deployment=deployment, problem=problem)

    def _notice(self, record: Record, finished: int) -> Notice:
        attempt = record.attempt
        return Notice(
            id=attempt.id,
            host=self._host,
            ending=ending(attempt.kind, record.phase),
            app=attempt.app,
            version=attempt.version,
            time=finished,
            started=record.started,
            by=attempt.by,
            release=attempt.release,
            previous=attempt.previous or "",
            kind=attempt.kind.value,
            problem=record.problem or {},
        )


def _members(name: str, way: Way, state: WayState) -> dict[str, Any]:
    return {
        "way": name,
        "address": way.address,
        "waiting": state.waiting,
        "left_out": state.left_out,
        "failures": state.failures,
        "problem": state.problem if state.failures or state.left_out else "",
        "since": format_timestamp(state.since) if state.since is not None else None,
        "next": format_timestamp(state.due) if state.due and state.waiting else None,
    }
