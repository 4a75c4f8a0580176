"""Reports of a subscribed app: sent when something has changed, and from time to time.

Invariant: a report is sent in the wake of a poll, never on a timer of its own. One that cannot be sent changes
nothing: it is tried again with the next poll.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Protocol

import structlog

from agent.doors.channel.reading import ChannelReader
from agent.doors.channel.result import Result
from agent.host.channel.identity import Identity
from pusher.wire import Problem, WireError
from pusher.wire.channel import check_host, join_signed, report_name
from pusher.wire.report import Named, Report

_log = structlog.get_logger()
_AGENT = version("pusher-agent")


class Puts(Protocol):
    """A place for reports. Raises: Problem."""

    async def put(self, name: str, content: bytes) -> None: ...


class Reporter:
    """Reports how an app of a host stands to a channel. `every_s` is the longest time between two reports.

    `now` in ms since 1970, `chance` from 0 to 1.
    """

    def __init__(
        self,
        app: str,
        *,
        channel: str,
        host: str,
        every_s: float,
        labels: Mapping[str, str],
        identity: Identity,
        reader: ChannelReader,
        now: Callable[[], int],
        chance: Callable[[], float],
        bus: Puts | None = None,
    ) -> None:
        self._bus = bus
        self._app = app
        self._channel = channel
        self._host = host
        self._every_s = every_s
        self._labels = labels
        self._identity = identity
        self._reader = reader
        self._now = now
        self._chance = chance
        self._sent: Report | None = None
        self._due = 0
        self._failing = False

    async def start(self) -> None:
        """Make the host's key, if it has none. Without one it reports nothing, and serves all the same."""
        try:
            check_host(self._host)
            await asyncio.to_thread(self._identity.ensure)
        except (Problem, OSError, WireError) as error:
            _log.error("identity_missing", app=self._app, problem=str(error))

    async def report(self, result: Result, live: Named | None) -> None:
        """Send a report, if there is something new, or the last one is old."""
        now = self._now()
        made = self._made(result, live, now)
        if self._sent is not None and replace(self._sent, created=now) == made and now < self._due:
            return
        try:
            document = made.to_bytes()
            signature = await asyncio.to_thread(self._identity.sign, document)
            await self._put(join_signed(document, signature))
        except Problem as problem:
            if not self._failing:
                self._failing = True
                _log.warning("report_not_sent", app=self._app, channel=self._channel, problem=str(problem))
            return
        if self._failing:
            self._failing = False
            _log.info("report_sent", app=self._app, channel=self._channel)
        self._sent, self._due = made, now + int(self._every_s * (0.5 + self._chance() / 2) * 1000)

    def _made(self, result: Result, live: Named | None, now: int) -> Report:
        document = result.trusted.document if result.trusted else None
        release = document.target.release if document else None
        problem: Mapping[str, Any] = result.problem.to_document() if result.problem else {}
        return Report(
            app=self._app,
            channel=self._channel,
            host=self._host,
            created=now,
            state=result.state.value,
            awaited=result.awaited.value if result.awaited else "",
            signed=document.created if document else 0,
            attempt=document.rollout.attempt if document else 0,
            live=live,
            wanted=Named(release.manifest, release.version) if release else None,
            problem={key: str(problem[key]) for key in ("code", "title", "detail", "hint") if key in problem},
            labels=self._labels,
            agent=_AGENT,
        )

    async def _put(self, content: bytes) -> None:
        """To the bus, or the first mirror that takes it. Raises: the problem with the bus, or the last mirror."""
        problem: Problem | None = None
        places: list[Puts] = [*([self._bus] if self._bus else []), *self._reader.in_turn()]
        for mirror in places:
            try:
                await mirror.put(report_name(self._app, self._host), content)
                return
            except Problem as found:
                problem = problem if self._bus and problem else found
        if problem is not None:
            raise problem
