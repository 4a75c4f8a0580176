"""The life of an agent: recover, open the doors, serve, drain, exit.

Invariant: no door opens before every app is settled. What is accepted is carried out, or settled at the next
start; who follows it sees its end before the door closes on him.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import structlog

from agent.deploy.deployer import Deployer
from agent.deploy.deployment import Deployment
from agent.deploy.unusable import Unusable
from agent.doors.http.uploads import UPLOADS_MOST
from agent.doors.ports import Drop
from agent.host.ports import Service
from agent.host.storage.journal import Journal

_log = structlog.get_logger()

_THREADS = 2 * UPLOADS_MOST
"""For all that blocks. A bundle keeps one while it arrives, however slowly; asyncio's own number, by that of the
processors, is 6 on a small machine, and six uploads that stood still kept everything else waiting."""

_GRACE_S = 20.0
"""How long deployments may take to come to an end when the agent is told to stop."""


class Door(Protocol):
    """A way in."""

    async def start(self) -> None:
        """Open it. Raises: Refused, if it cannot be opened."""
        ...

    async def stop(self) -> None:
        """Let nobody in any more; those who wait for an answer get it, if it comes in time."""
        ...


class Agent:
    """The apps of one host, as doors see them."""

    def __init__(self, apps: Mapping[str, Deployer | Unusable], *, drops: Mapping[str, Drop]) -> None:
        self.apps = apps
        self.drops = drops

    async def deployment(self, deployment: str) -> Deployment | None:
        """A deployment of any app, by its id, running or past."""
        app = self.apps.get(deployment.rpartition("-")[0])
        return await app.deployment(deployment) if app else None


async def serve(
    agent: Agent,
    *,
    doors: Sequence[Door],
    services: Sequence[Service],
    journal: Journal,
    stop: asyncio.Event,
    stopping: Callable[[], None],
) -> None:
    """Run until `stop` is set; `stopping` is told at once. Raises: Problem, if it cannot begin."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="work"))
    await journal.open()
    try:
        await asyncio.gather(*(app.recover() for app in agent.apps.values()))
        for door in doors:
            await door.start()
        _log.info("ready", apps=sorted(agent.apps))
        await stop.wait()
        stopping()
        _log.info("stopping")
    finally:
        # Deployments first: those who follow one get to see its end before the door closes on them.
        await asyncio.gather(*(app.stop(grace_s=_GRACE_S) for app in agent.apps.values()))
        await asyncio.gather(*(door.stop() for door in doors))
        await asyncio.gather(*(service.stop() for service in services))
        await journal.close()
