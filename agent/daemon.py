"""The life of an agent: recover, open the doors, serve, drain, exit.

Invariant: no door opens before every app is recovered. What is accepted is carried out, or recovered at the next
start. Watchers of a deployment see its end before their door closes.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import structlog

from agent.deploy.deployer import Deployer
from agent.deploy.deployment import Deployment
from agent.deploy.figures import Figures
from agent.deploy.in_force import InForce
from agent.deploy.recovery import AppRecovery
from agent.deploy.status import Status
from agent.deploy.subscribed import Subscribed
from agent.deploy.unusable import Unusable
from agent.doors.http.uploads import UPLOADS_MOST
from agent.doors.ports import Channel, Drop, Notices
from agent.host.ports import Service, SideProcesses
from agent.host.storage.journal import Journal
from pusher.wire import Refused

_log = structlog.get_logger()

_THREADS = 2 * UPLOADS_MOST
"""For all that blocks. Each upload keeps a thread while it arrives, however slowly. asyncio's default depends on
the processors: on a small machine it is 6, and six stalled uploads kept everything else waiting."""

_GRACE_S = 20.0
"""How long deployments get to end when the agent is told to stop, in seconds."""


class Door(Protocol):
    """A way in."""

    async def start(self) -> None:
        """Open it. Raises: Refused, if it cannot be opened."""
        ...

    async def stop(self) -> None:
        """Accept nothing more. Callers that wait for a response get it, if it comes in time."""
        ...


@dataclass(frozen=True, slots=True)
class App:
    """The parts of one app that act for others."""

    name: str
    deployer: Deployer
    status: Status
    admission: InForce
    recovery: AppRecovery
    subscribed: Subscribed
    figures: Figures


class Agent:
    """The apps of one host by its name, as the doors see them: each usable, or the problem with it."""

    def __init__(
        self,
        usable: Mapping[str, App],
        unusable: Mapping[str, Unusable],
        *,
        host: str,
        drops: Mapping[str, Drop],
        channels: Mapping[str, Channel],
        notices: Notices,
    ) -> None:
        self.host = host
        self.apps: Mapping[str, App | Refused] = {
            **usable,
            **{name: app.problem for name, app in unusable.items()},
        }
        self.drops = drops
        self.channels = channels
        self.notices = notices
        self._usable = usable
        self._unusable = unusable

    async def deployment(self, deployment: str) -> Deployment | None:
        """A deployment of any app, by its id, running or past. Raises: Refused, if its app cannot be used."""
        name = deployment.rpartition("-")[0]
        if app := self._usable.get(name):
            return await app.status.deployment(deployment)
        if unusable := self._unusable.get(name):
            return await unusable.deployment(deployment)
        return None

    async def recover(self) -> None:
        """End what another agent left unfinished, and start the apps."""
        for app in self._unusable.values():
            app.report()
        await asyncio.gather(*(app.recovery.recover() for app in self._usable.values()))

    async def stop(self, *, grace_s: float) -> None:
        """Accept no more deployments; those under way get `grace_s` seconds to end."""
        await asyncio.gather(*(app.deployer.stop(grace_s=grace_s) for app in self._usable.values()))


async def serve(
    agent: Agent,
    *,
    doors: Sequence[Door],
    services: Sequence[Service | SideProcesses],
    journal: Journal,
    stop: asyncio.Event,
    stopping: Callable[[], None],
) -> None:
    """Run until `stop` is set; then call `stopping` at once. Raises: Problem, if the agent cannot begin."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="work"))
    for app, deployments in (await journal.open()).items():
        # What was in the journal before counts as it is found: nothing bound it until now.
        _log.warning("history_begins", app=app, deployments=deployments)
    try:
        await agent.recover()
        for door in doors:
            await door.start()
        _log.info("ready", apps=sorted(agent.apps))
        await stop.wait()
        stopping()
        _log.info("stopping")
    finally:
        # Deployments first: their watchers must see the end before the door closes.
        await agent.stop(grace_s=_GRACE_S)
        await asyncio.gather(*(door.stop() for door in doors))
        await asyncio.gather(*(service.stop() for service in services))
        await journal.close()
