"""The step `switch`: `current` points at the release. Its undo brings back what was live.

Invariant: after `undo` a release answers that is not the one that failed, or, after a first deployment, nothing is
live.
"""

import asyncio
from dataclasses import dataclass

import structlog

from agent.core.layout import current_target, live_venv_target
from agent.core.plan import Attempt
from agent.core.releases import rollback_targets
from agent.deploy.steps.step import Inputs, placed
from agent.host.ports import Clock, Lines, Service, SideProcesses
from agent.host.releases.revocations import Revocations
from agent.host.releases.store import ReleaseStore
from agent.host.run import health
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Code, Problem, Stuck

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Switch:
    """Flips the links `current` and `shared/venv`."""

    store: ReleaseStore
    revocations: Revocations
    disk: Disk
    service: Service
    journal: Journal
    clock: Clock
    processes: SideProcesses

    async def do(self, attempt: Attempt, inputs: Inputs, line: Lines) -> None:
        await self._point_at(attempt.release)

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        """Bring back the previous release; if it does not answer, the newest intact rollback target before it.
        If none answers, the previous release is current all the same.

        What was live a moment ago comes back, even if its keys have ended.
        Others come back only if their keys still count. Raises: Stuck, if none answers.
        """
        if attempt.previous is None:
            await asyncio.to_thread(self._point_at_nothing)
            await self.processes.stop()
            await self.service.stop()
            return
        problem = await self._bring_back(attempt.previous)
        tried = attempt.previous
        for other in rollback_targets(await self.journal.releases(attempt.app), live=attempt.previous):
            if problem is None or await self.service.ending():
                break
            if other.id != attempt.release and not await asyncio.to_thread(self._hindrance, other.id):
                line(f"release {tried} does not come back ({problem}); trying {other.id}")
                tried = other.id
                problem = await self._bring_back(tried)
        if problem is not None and tried != attempt.previous:
            # An operator who mends the host must not find an older app there than the one they know.
            line(f"release {tried} does not come back ({problem}); {attempt.previous} stays current")
            tried = attempt.previous
            problem = await self._bring_back(tried)
        if problem is not None:
            first = "Look at the output below" if problem.output else "`pusher logs` says more"
            raise Stuck(
                Code.NOT_UNDONE,
                f"No release of {attempt.app} answers any more",
                why=f"{tried} was brought back, and {problem}",
                hint=f"{first}. Mend what the app needs, then deploy or roll back --to a release",
                output=problem.output,
            )
        await self._bring_processes_back(tried, line)

    async def _bring_processes_back(self, release: str, line: Lines) -> None:
        """The processes run what serves. Where they cannot, the app is not stuck: it answers, as people see."""
        try:
            await self.processes.run(await placed(self.store, release))
        except Problem as problem:
            line(f"the processes do not all run with release {release}: {problem}")
            _log.error("processes_not_brought_back", release=release, problem=str(problem))

    async def _bring_back(self, release: str) -> Problem | None:
        """Make a release live and check its health; what went wrong, if anything did."""
        try:
            there = await placed(self.store, release)
            if await asyncio.to_thread(self.store.live) != release:
                await self._point_at(release)
            running = self.service.running()
            if running is None or running.placed.release != release:
                running = await self.service.restart(there)
            await health.check(
                running,
                there.run.health,
                version=there.version,
                deadline_s=there.run.health.deadline_s,
                clock=self.clock,
            )
        except Problem as problem:
            return problem
        return None

    def _hindrance(self, release: str) -> str:
        """Why a release that was not live a moment ago cannot be brought back; empty if it can."""
        return self.revocations.why(release) or self.store.intact(release)

    async def _point_at(self, release: str) -> None:
        layout = self.store.layout
        venv = await asyncio.to_thread(self.store.venv, release)
        await asyncio.to_thread(self.disk.flip, layout.current, current_target(release), op="switch.current")
        if venv:
            await asyncio.to_thread(self.disk.flip, layout.shared_venv, live_venv_target(venv), op="switch.venv")

    def _point_at_nothing(self) -> None:
        layout = self.store.layout
        for link in (layout.current, layout.shared_venv):
            self.disk.unlink(link, op="switch.unlink")
