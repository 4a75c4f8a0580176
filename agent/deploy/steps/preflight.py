"""The step `preflight`: the release is tried out beside the live one, on a private socket.

Invariant: nothing live changes, and a candidate that fails has ended when the step has.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from agent.core.config.app import AppConfig
from agent.core.plan import Attempt
from agent.core.run import SERVICE
from agent.deploy.steps.step import Inputs, placed
from agent.host.ports import Clock, Lines, Service, SideProcesses
from agent.host.releases.store import ReleaseStore
from agent.host.run import health
from agent.host.run.launch import find_start

Renew = Callable[[Attempt, Lines], Awaitable[None]]
"""Makes the venv of a release anew, if it does not run any more. Raises: Refused, Failed."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """Renews a venv whose Python is gone, finds the programs of all processes and reserves the public socket.

    Then it starts a candidate and checks its health (unless `preflight = false`).
    """

    store: ReleaseStore
    config: AppConfig
    service: Service
    clock: Clock
    processes: SideProcesses
    renew: Renew

    async def do(self, attempt: Attempt, inputs: Inputs, line: Lines) -> Inputs:
        await self.renew(attempt, line)
        release = await placed(self.store, attempt.release)
        await self.processes.ready()
        for name, start in release.run.commands:
            if name != SERVICE:
                await asyncio.to_thread(find_start, start, release=release.path, process=name)
        await self.service.reserve()
        if not self.config.preflight:
            return inputs
        began = self.clock.elapsed()
        candidate = await self.service.try_out(release)
        try:
            await health.check(
                candidate,
                release.run.health,
                version=release.version,
                deadline_s=release.run.health.deadline_s,
                clock=self.clock,
            )
        except BaseException:
            await candidate.end()
            raise
        candidate.dismiss()
        return replace(inputs, candidate_s=self.clock.elapsed() - began)

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        """Close the socket after a very first deployment. An app that still runs is left alone, even if the folder
        of its release is gone, or if it is the old one of an app that is being taken over."""
        if attempt.previous is None:
            await self.service.unreserve()
