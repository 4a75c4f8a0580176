"""Whose turn it is at an app.

Invariant: one deployment at a time; who comes meanwhile is told who is at it.
"""

import asyncio
from dataclasses import dataclass, field

from agent.deploy.deployment import Deployment
from agent.deploy.executor import Execution
from pusher.wire import Code, Refused


@dataclass(slots=True)
class Turn:
    """Somebody's turn: `by` whom, `doing` what (for people), and, from its start on, the deployment."""

    by: str
    doing: str
    deployment: Deployment | None = None
    execution: Execution | None = None
    task: asyncio.Task[None] | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Turns:
    """The turns at one app. `now` is the one that is taken."""

    def __init__(self, app: str) -> None:
        self.now: Turn | None = None
        self._app = app

    @property
    def deployment(self) -> Deployment | None:
        """The deployment under way."""
        return self.now.deployment if self.now else None

    def take(self, by: str, doing: str) -> Turn:
        """Begin one. Raises: Refused(busy)."""
        self.check_free()
        self.now = Turn(by, doing)
        return self.now

    def check_free(self) -> None:
        """Raises: Refused(busy), while somebody has it."""
        if self.now is not None:
            other = self.now.deployment
            raise Refused(
                Code.BUSY,
                f"{self.now.by} is {self.now.doing} on {self._app}",
                why="one deployment runs at a time",
                hint=f"`pusher status --deployment {other.id} --follow` shows it" if other else "Try again soon",
            )

    def end(self) -> None:
        """End the one that is taken."""
        if self.now is not None:
            self.now.over.set()
        self.now = None

    async def over(self) -> None:
        """Return when nobody has it."""
        while self.now is not None:
            await self.now.over.wait()
