"""What a step is to the executor, and what one step hands to another.

Invariant: a step keeps nothing of a deployment; what a later step needs passes through the executor.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from agent.core.plan import Attempt
from agent.host.ports import Bundle, Lines, Placed, Running
from agent.host.releases.store import ReleaseStore
from pusher.wire import Code, Failed, WireError


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a step can build on: the bundle that came with the deployment, what `restart` started, and how long the
    candidate took to be healthy, in seconds (0: there was none)."""

    bundle: Bundle | None = None
    started: Running | None = None
    candidate_s: float = 0


class Doable(Protocol):
    """One step of a plan. `line` publishes a line of output."""

    async def do(self, attempt: Attempt, inputs: Inputs, line: Lines) -> Inputs | None:
        """Do it. Returns what later steps can build on, if it adds to that. Raises: Refused, Failed."""
        ...

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        """Take back whatever of it was done. Raises: Failed, Stuck."""
        ...


async def placed(store: ReleaseStore, release: str) -> Placed:
    """A release as it lies on disk, to be started. Raises: Failed(release_damaged)."""
    try:
        return await asyncio.to_thread(store.placed, release)
    except (OSError, WireError) as error:
        raise Failed(
            Code.RELEASE_DAMAGED,
            f"Release {release} cannot be started",
            why=f"its manifest is damaged: {error}",
            hint="Deploy again, or roll back --to another release",
        ) from error
