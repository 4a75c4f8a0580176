"""A way to tell others: the port, and what can be wrong with one."""

from typing import Protocol

from agent.core.notice import Notice
from pusher.wire import Code, Failed


class Undelivered(Failed):
    """A notice did not arrive. `retry_after_s`: the receiver wants no other attempt before (0: it said nothing).

    `final`: this notice will never be taken, so others need not wait for it.
    """

    def __init__(
        self, what: str, *, why: str = "", hint: str = "", retry_after_s: float = 0, final: bool = False
    ) -> None:
        super().__init__(Code.NOT_DELIVERED, what, why=why, hint=hint)
        self.retry_after_s = retry_after_s
        self.final = final


class Way(Protocol):
    """One way. A notice may come twice: its `id` says so."""

    @property
    def address(self) -> str:
        """Who is told, for people. Nothing secret."""
        ...

    async def deliver(self, notice: Notice) -> None:
        """Return when the receiver has it. Raises: Undelivered."""
        ...
