"""What can be measured of an app, as it is now and as it was so far: for those who watch it by numbers.

Invariant: nothing here changes anything, and nothing is done unless somebody asks. An answer never takes long:
what may be slow is left out, or is known from before.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.phases import Phase
from agent.core.releases import Release, Standing
from agent.core.tally import Tally
from agent.deploy.condition import Condition
from agent.deploy.ground import Ground
from agent.deploy.lock import DeploymentLock
from agent.deploy.recovery import AppRecovery
from agent.host.ports import ProcessState, Service, SideProcesses, TimerState
from agent.host.releases.store import ReleaseStore
from agent.host.storage.journal import Journal

_CHANGING = (Phase.SWITCHING, Phase.SWITCHED, Phase.CONFIRMING, Phase.RETURNING)
"""While a deployment is so far, another version than the one that is expected may rightly answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppFigures:
    """The figures of one app. Times are ms since 1970, sizes bytes. None is what is not known now."""

    tally: Tally
    releases: Mapping[Standing, int]
    live: Release | None
    deploying: bool
    running: bool
    healthy: bool | None
    restarts: int
    drift: bool | None
    trouble: bool
    disk_free: int | None
    disk_size: int | None
    processes: list[ProcessState] = field(default_factory=list)
    timers: list[TimerState] = field(default_factory=list)


class Figures:
    """Reads the figures of one app."""

    def __init__(
        self,
        app: str,
        *,
        lock: DeploymentLock,
        recovery: AppRecovery,
        store: ReleaseStore,
        service: Service,
        ground: Ground,
        condition: Condition,
        processes: SideProcesses,
        journal: Journal,
    ) -> None:
        self._app = app
        self._lock = lock
        self._recovery = recovery
        self._store = store
        self._service = service
        self._ground = ground
        self._condition = condition
        self._processes = processes
        self._journal = journal

    async def read(self) -> AppFigures:
        """The figures now. Takes at most as long as the app may take to answer one question. Raises: Failed."""
        known, tally = await asyncio.gather(self._journal.releases(self._app), self._journal.tally(self._app))
        live, disk, drift, healthy, (processes, timers) = await asyncio.gather(
            asyncio.to_thread(self._store.live),
            self._condition.disk(),
            self._ground.newest_drift(),
            self._healthy(),
            self._processes.states(),
        )
        return AppFigures(
            tally=tally,
            releases=Counter(one.standing for one in known),
            live=next((one for one in known if one.id == live), None),
            deploying=self._lock.deployment is not None,
            running=self._service.running() is not None,
            healthy=healthy if live is not None else None,
            restarts=self._service.restarts,
            drift=None if drift is None else bool(drift),
            trouble=bool(self._recovery.trouble),
            disk_free=disk["free"] if disk else None,
            disk_size=disk["total"] if disk else None,
            processes=processes,
            timers=timers,
        )

    async def _healthy(self) -> bool | None:
        """Whether the app answers as [health] wants it. None while a deployment changes what answers."""
        going, running = self._lock.deployment, self._service.running()
        if going is not None and going.phase in _CHANGING:
            return None
        if running is None:
            return False
        well = bool((await self._condition.health())["healthy"])
        changed = running is not self._service.running() or going is not self._lock.deployment
        return None if changed and not well else well
