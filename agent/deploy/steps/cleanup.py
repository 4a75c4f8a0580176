"""The step `cleanup`: what is old and no longer needed is deleted.

Invariant: it runs after the commit, so it fails no deployment. What it leaves goes the next time.
"""

import asyncio
from dataclasses import dataclass

from agent.core.plan import Attempt
from agent.deploy.retention import Retention
from agent.deploy.steps.step import Inputs
from agent.host.dependencies.venvs import Venvs
from agent.host.ports import Lines
from agent.host.releases.store import ReleaseStore
from agent.host.storage.journal import Journal


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Deletes releases, then venvs without a release, then old events."""

    store: ReleaseStore
    retention: Retention
    venvs: Venvs
    journal: Journal

    async def do(self, attempt: Attempt, inputs: Inputs, line: Lines) -> None:
        try:
            await self.retention.delete_surplus(live=attempt.release, previous=attempt.previous)
        finally:
            # Journal and disk both: if a link cannot be read just now, the journal still knows its venv.
            known = {one.venv for one in await self.journal.releases(attempt.app)}
            await asyncio.to_thread(self.venvs.prune, known | await asyncio.to_thread(self.store.venvs))
            await self.journal.trim(attempt.app)

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        return
