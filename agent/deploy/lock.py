"""The lock of an app: one deployment at a time.

Invariant: while it is held, a second caller is refused, and learns who holds it and what for.
"""

import asyncio

from agent.deploy.deployment import Deployment
from pusher.wire import Code, Refused


class DeploymentLock:
    """The lock of one app. `deployment` is the one under way; None while it is being admitted, too.

    `ended` is how many deployments have ended since the agent started.
    """

    def __init__(self, app: str) -> None:
        self.deployment: Deployment | None = None
        self.ended = 0
        self._app = app
        self._held = ""
        self._free = asyncio.Event()
        self._free.set()
        self._another = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether a deployment is under way, or being admitted."""
        return not self._free.is_set()

    def acquire(self, *, by: str, doing: str) -> None:
        """Take the lock. `by` and `doing` are for people: "alice", "deploying v3". Raises: Refused(busy)."""
        self.check_free()
        self._held = f"{by} is {doing}"
        self._free.clear()

    def check_free(self) -> None:
        """Raises: Refused(busy), while the lock is held."""
        if self.held:
            other = self.deployment
            raise Refused(
                Code.BUSY,
                f"{self._held} on {self._app}",
                why="one deployment runs at a time",
                hint=f"`pusher status --deployment {other.id} --follow` shows it" if other else "Try again soon",
            )

    def release(self) -> None:
        """Give the lock back."""
        if self.deployment is not None:
            self.ended += 1
            another, self._another = self._another, asyncio.Event()
            another.set()
        self.deployment = None
        self._free.set()

    async def free(self) -> None:
        """Return when the lock is free."""
        while self.held:
            await self._free.wait()

    async def another(self, *, after: int) -> None:
        """Return when more than `after` deployments have ended. One that was refused has not begun."""
        while self.ended <= after:
            await self._another.wait()
