"""The step `restart`: the release serves the public socket.

Invariant: the socket stays open all the time. What served before gets `drain_s` to finish.
"""

from dataclasses import dataclass, replace

from agent.core.plan import Attempt
from agent.deploy.steps.step import Inputs, placed
from agent.host.ports import Lines, Service
from agent.host.releases.store import ReleaseStore


@dataclass(frozen=True, slots=True)
class Restart:
    """Starts the release, and hands on what it started, alive or not."""

    store: ReleaseStore
    service: Service

    async def do(self, attempt: Attempt, inputs: Inputs, line: Lines) -> Inputs:
        return replace(inputs, started=await self.service.restart(await placed(self.store, attempt.release)))

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        """Only clear the way: what was live comes back with the link (`Switch.undo`)."""
        await self.service.mend()
