"""A scrape: everything is measured when it is asked for, and at no other time.

Invariant: one scrape is under way at a time; who asks meanwhile gets the same one, so that many callers cost no
more than one. An app that cannot be measured is missing from the answer, and keeps nobody else out of it.
"""

import asyncio
import importlib
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version

import structlog

from agent.deploy.figures import AppFigures
from agent.doors.ports import Agent, App
from agent.doors.refusals import Refusals
from agent.host import own_process
from agent.host.ports import Clock
from pusher.wire import Problem, Refused

_VERSION = version("pusher-agent")
_log = structlog.get_logger()


class Metrics:
    """Measures `agent` and its apps. `connections` and `uploads` count those of the door that are open now."""

    def __init__(
        self,
        agent: Agent,
        *,
        refusals: Refusals,
        connections: Callable[[], int],
        uploads: Callable[[], int],
        clock: Clock,
    ) -> None:
        self._agent = agent
        self._refusals = refusals
        self._connections = connections
        self._uploads = uploads
        self._clock = clock
        self._started = clock.now()
        self._scraping: asyncio.Task[tuple[bytes, str]] | None = None

    async def scrape(self) -> tuple[bytes, str]:
        """The text of all metrics, and its content type."""
        if self._scraping is None or self._scraping.done():
            self._scraping = asyncio.create_task(self._scrape(), name="metrics")
        return await asyncio.shield(self._scraping)

    async def _scrape(self) -> tuple[bytes, str]:
        # The library costs a tenth of a second once. An agent that nobody scrapes does not pay for it.
        families = await asyncio.to_thread(importlib.import_module, "agent.doors.http.families")
        usable = {name: app for name, app in self._agent.apps.items() if not isinstance(app, Refused)}
        figures = await asyncio.gather(*(self._figures(app) for app in usable.values()))
        apps = {name: None for name, app in self._agent.apps.items() if isinstance(app, Refused)}
        seen = families.Seen(
            apps=apps | {name: one for name, one in zip(usable, figures, strict=True) if one is not None},
            drops={name: Counter(drop.waiting()) for name, drop in self._agent.drops.items()},
            refusals=Counter(self._refusals.counts),
            version=_VERSION,
            connections=self._connections(),
            uploads=self._uploads(),
            tasks=len(asyncio.all_tasks()),
            loop_delay_s=await self._loop_delay_s(),
            process=await asyncio.to_thread(own_process.measure),
            started=self._started,
        )
        return await asyncio.to_thread(families.text, seen), families.CONTENT_TYPE

    async def _figures(self, app: App) -> AppFigures | None:
        try:
            return await app.figures.read()
        except (Problem, OSError) as problem:
            _log.warning("app_not_measured", app=app.name, problem=str(problem))
            return None

    async def _loop_delay_s(self) -> float:
        """How long a callback that is due at once has to wait for its turn."""
        began = self._clock.elapsed()
        await asyncio.sleep(0)
        return self._clock.elapsed() - began
