"""The step `confirm`: the release answers on the public address, and continues to do so for `bake_s`.

Invariant: it checks the main process that `restart` started. Whatever runs by now would not do: a service starts
a release that ended again, and that might answer before it ends once more.
"""

from dataclasses import dataclass

from agent.core.plan import Attempt
from agent.deploy.steps.step import Inputs
from agent.host.ports import Clock, Lines
from agent.host.run import health

_LONGER = 1.5


@dataclass(frozen=True, slots=True)
class Confirm:
    """Checks the health of what was started, then watches it.

    Its deadline grows to one and a half times what its candidate took: that may have been the quicker start.
    """

    clock: Clock

    async def do(self, attempt: Attempt, inputs: Inputs, line: Lines) -> None:
        if inputs.started is None:
            raise RuntimeError("a release is confirmed after its restart")
        wanted = inputs.started.placed.run.health
        deadline_s = max(wanted.deadline_s, inputs.candidate_s * _LONGER)
        await health.check(
            inputs.started, wanted, version=attempt.version, deadline_s=deadline_s, clock=self.clock
        )
        await health.watch(
            inputs.started, wanted, version=attempt.version, seconds=wanted.bake_s, clock=self.clock
        )

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        return
