"""What an agent does when it starts: it ends what another left unfinished, and gets the live release running.

Invariant: recovering twice comes to the same as once. The executor that would have ended a deployment ends it.
"""

import asyncio
import os

import structlog

from agent.core.backoff import Backoff
from agent.core.phases import Phase, Recovery, Signal, advance, recovery
from agent.core.plan import Kind, finish_at, resume_at
from agent.core.releases import Standing
from agent.deploy.deployment import recorded
from agent.deploy.executor import Executor
from agent.deploy.lock import DeploymentLock
from agent.deploy.reconcile import reconcile
from agent.deploy.status_line import StatusLine
from agent.host.ports import Clock, Service, SideProcesses
from agent.host.releases.store import ReleaseStore
from agent.host.storage.deployments import Record
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Code, Failed, Problem, WireError

_log = structlog.get_logger()

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


class AppRecovery:
    """The recovery of one app."""

    def __init__(
        self,
        app: str,
        *,
        executor: Executor,
        lock: DeploymentLock,
        store: ReleaseStore,
        disk: Disk,
        service: Service,
        processes: SideProcesses,
        journal: Journal,
        clock: Clock,
        status_line: StatusLine,
    ) -> None:
        self._app = app
        self._executor = executor
        self._lock = lock
        self._store = store
        self._disk = disk
        self._service = service
        self._processes = processes
        self._journal = journal
        self._clock = clock
        self._status_line = status_line
        self._not_recovered = ""
        self._not_started = ""
        self._retrying: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @property
    def trouble(self) -> str:
        """What is still wrong, for people; empty if nothing is."""
        return "; ".join(filter(None, (self._not_recovered, self._not_started)))

    async def recover(self) -> None:
        """End what is unfinished, then start the live release. If it does not start, retry until it runs.

        A problem with this app must not keep the agent from serving others: it is logged, and kept as `trouble`.
        Nor must a bug of ours: the others would stand still with it.
        """
        try:
            unfinished = await self._journal.unfinished(self._app)
            for record in unfinished[:-1]:
                await self._close(record)
            for record in unfinished[-1:]:
                await self._recover(record)
            await reconcile(self._app, store=self._store, disk=self._disk, journal=self._journal)
        except Exception as error:
            self._not_recovered = await self._said(error)
            _log.error("app_not_recovered", app=self._app, problem=self._not_recovered)
        try:
            self._status_line.live(await asyncio.to_thread(self._store.version))
        except Exception as error:
            said = await self._said(error)
            self._not_recovered = self._not_recovered or said
        if not await self._ensure_running():
            self._retrying = asyncio.create_task(self._retry(), name=f"start {self._app}")

    async def make_way(self) -> None:
        """Let what is left from before come to its end: a deployment begins, and its caller holds the lock.

        A retry that is under way ends first: it would start what was live when it began. Then the end of
        deployments that ended while the journal could not be written is written down. A later start would take
        such a deployment for interrupted, and undo it over what went live since. Raises: Failed, while the journal
        still cannot be written.
        """
        async with self._starting:
            pass  # with the lock of the app held, no other begins
        for record in await self._journal.unfinished(self._app):
            await self._close(record)

    def went_live(self) -> None:
        """Note that a deployment succeeded: what was wrong before is past."""
        self._not_recovered = self._not_started = ""

    def stop(self) -> None:
        """Do not retry to start the live release any more."""
        if self._retrying is not None:
            self._retrying.cancel()

    async def _close(self, record: Record) -> None:
        """Write down the end of a deployment, without doing anything."""
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

    async def _recover(self, record: Record) -> None:
        """End a deployment that an agent left in the middle."""
        attempt, phase = record.attempt, record.phase
        live = await asyncio.to_thread(self._store.live)
        if live not in (attempt.release, attempt.previous):
            # Another release was made live by hand since: to undo this deployment would change that.
            await self._close(record)
            return
        link_says_new = live == attempt.release
        todo = recovery(phase, link_says_new=link_says_new, resumptions=record.resumptions)
        _log.warning(
            "deployment_unfinished", deployment=attempt.id, app=self._app, phase=phase.value, todo=todo.value
        )
        deployment = await recorded(record, journal=self._journal, clock=self._clock)
        if todo is Recovery.FINISH:
            await self._executor.carry_out(deployment, start=finish_at(attempt.items))
        elif todo is Recovery.RESUME:
            deployment.phase = advance(phase, Signal.RESUMED)
            await self._journal.note(attempt.id, phase=deployment.phase, resumptions=record.resumptions + 1)
            await self._executor.carry_out(deployment, start=resume_at(attempt.items))
        else:
            problem = Failed(
                Code.INTERRUPTED,
                "The agent ended in the middle of the deployment",
                why=f"it was found {phase.value} when the agent started again",
                hint="Send it again",
            )
            await self._executor.take_back(deployment, problem)

    async def _ensure_running(self) -> bool:
        """Whether the live release and its processes run, or were started now, or none is live.

        One that root stopped stays so.
        """
        live = None
        try:
            live = await asyncio.to_thread(self._store.live)
            if live is not None:
                if self._service.running() is None:
                    if not await self._service.wanted():
                        return self._service.running() is not None
                    await self._service.reserve()
                    await self._service.restart(await asyncio.to_thread(self._store.placed, live))
                if self._processes.any:
                    await self._processes.run(await asyncio.to_thread(self._store.placed, live))
        except Exception as error:
            self._not_started = await self._said(error)
            _log.error("app_not_started", app=self._app, release=live, problem=self._not_started)
            return False
        self._not_started = ""
        return True

    async def _said(self, error: Exception) -> str:
        """What is wrong, for people. A bug of ours is logged here, with its traceback."""
        if isinstance(error, Problem | OSError | WireError):
            return str(error)
        # In a thread: the traceback is made from source files.
        await asyncio.to_thread(_log.error, "internal_error", app=self._app, exc_info=error)
        return f"the agent met a bug of its own ({type(error).__name__}: {error}); its log has the traceback"

    async def _retry(self) -> None:
        """Retry after pauses that grow, until the app runs. A deployment under way has the service to itself."""
        pauses = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            await self._clock.sleep(pauses.next())
            async with self._starting:
                if not self._lock.held and await self._ensure_running():
                    return
