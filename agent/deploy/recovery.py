"""What an agent that died left behind: settled at the next start; and the live release brought to run.

Invariant: twice comes to the same as once. What was cut off is ended by the same loop that would have ended it.
"""

import asyncio
import os
from collections.abc import Callable

import structlog

from agent.core.phases import Phase, Recovery, Signal, advance, recovery
from agent.core.plan import Kind, finish_at, resume_at
from agent.core.releases import Standing
from agent.deploy.deployment import recorded
from agent.deploy.executor import Execute
from agent.deploy.reconcile import reconcile
from agent.deploy.status_line import StatusLine
from agent.host.ports import Clock, Service
from agent.host.releases.store import ReleaseStore
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal, Record
from pusher.wire import Code, Failed, Problem, WireError

_log = structlog.get_logger()

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


class AppRecovery:
    """That of one app."""

    def __init__(
        self,
        app: str,
        *,
        execute: Execute,
        store: ReleaseStore,
        disk: Disk,
        service: Service,
        journal: Journal,
        clock: Clock,
        status_line: StatusLine,
    ) -> None:
        self._app = app
        self._execute = execute
        self._store = store
        self._disk = disk
        self._service = service
        self._journal = journal
        self._clock = clock
        self._status_line = status_line
        self._unsettled = ""
        self._not_started = ""
        self._revival: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str:
        """What could not be brought in order, for people; empty if nothing."""
        return "; ".join(filter(None, (self._unsettled, self._not_started)))

    async def recover(self, *, taken: Callable[[], bool]) -> None:
        """Settle what is unfinished, then have the live release running; if it does not start, go on trying.

        `taken` says whether a deployment is under way, which has the service to itself. What is wrong with this
        app keeps no other from being served: it is logged, and kept as `trouble`.
        """
        try:
            unfinished = await self._journal.unfinished(self._app)
            for record in unfinished[:-1]:
                await self._close(record)
            for record in unfinished[-1:]:
                await self._settle(record)
            await reconcile(self._app, store=self._store, disk=self._disk, journal=self._journal)
        except (Problem, OSError, WireError) as error:
            self._unsettled = str(error)
            _log.error("app_not_settled", app=self._app, problem=self._unsettled)
        self._status_line.live(await asyncio.to_thread(self._store.version))
        if not await self._have_running():
            self._revival = asyncio.create_task(self._revive(taken), name=f"revive {self._app}")

    async def close_ended(self) -> None:
        """Write down the end of deployments that ended while the journal could not be written.

        Before anything else begins: a later start would take them for interrupted, and settle them over what
        went live since. Raises: Failed, while the journal still cannot be written.
        """
        for record in await self._journal.unfinished(self._app):
            await self._close(record)

    def live_now(self) -> None:
        """Note that a deployment has gone live: what was in trouble before it is past."""
        self._unsettled = self._not_started = ""

    def stop(self) -> None:
        """Try no more to have the live release running."""
        if self._revival is not None:
            self._revival.cancel()

    async def _close(self, record: Record) -> None:
        done = record.phase is Phase.COMMITTED
        deploy = record.attempt.kind is Kind.DEPLOY
        there = await asyncio.to_thread(os.path.isdir, self._store.layout.release(record.attempt.release))
        problem = Failed(Code.INTERRUPTED, "How the deployment ended could not be written down")
        await self._journal.finish(
            record.attempt,
            Phase.DONE if done else Phase.FAILED,
            now=self._clock.now(),
            problem=None if done else problem,
            standing=Standing.FAILED if deploy and not done else None,
            forget=deploy and not there,
        )

    async def _settle(self, record: Record) -> None:
        """End a deployment that an agent left in the middle."""
        attempt, phase = record.attempt, record.phase
        live = await asyncio.to_thread(self._store.live)
        if live not in (attempt.release, attempt.previous):
            # Something else went live since, by other hands: what was left behind here is none of its business.
            await self._close(record)
            return
        link_says_new = live == attempt.release
        todo = recovery(phase, link_says_new=link_says_new, resumptions=record.resumptions)
        _log.warning(
            "deployment_unfinished", deployment=attempt.id, app=self._app, phase=phase.value, todo=todo.value
        )
        deployment = await recorded(record, journal=self._journal, clock=self._clock)
        execution = self._execute(deployment, None)
        if todo is Recovery.FINISH:
            await execution.carry_out(start=finish_at(attempt.items))
        elif todo is Recovery.RESUME:
            deployment.phase = advance(phase, Signal.RESUMED)
            await self._journal.note(attempt.id, phase=deployment.phase, resumptions=record.resumptions + 1)
            await execution.carry_out(start=resume_at(attempt.items))
        else:
            await execution.take_back(
                Failed(
                    Code.INTERRUPTED,
                    "The agent ended in the middle of the deployment",
                    why=f"it was found {phase.value} when the agent started again",
                    hint="Send it again",
                )
            )

    async def _have_running(self) -> bool:
        """Whether the live release runs, or was started now, or there is none. Stopped by root, it stays so."""
        live = await asyncio.to_thread(self._store.live)
        try:
            if live is not None and self._service.running() is None:
                if not await self._service.wanted():
                    return self._service.running() is not None
                await self._service.reserve()
                await self._service.restart(await asyncio.to_thread(self._store.placed, live))
        except (Problem, OSError, WireError) as error:
            self._not_started = str(error)
            _log.error("app_not_started", app=self._app, release=live, problem=self._not_started)
            return False
        self._not_started = ""
        return True

    async def _revive(self, taken: Callable[[], bool]) -> None:
        """Try again, after pauses that grow, until something runs; not while a deployment does, which may fail."""
        pause = _FIRST_PAUSE_S
        while True:
            await self._clock.sleep(pause)
            if not taken() and await self._have_running():
                return
            pause = min(2 * pause, _LONGEST_PAUSE_S)
