"""What a subscribed host asks of one mirror of a repository.

Invariant: nothing that a mirror says is believed. Documents are believed by their signature, bundles by their
digest.
"""

from dataclasses import dataclass
from typing import Protocol

from agent.host.storage.partial import Partial
from pusher.wire import Code, Failed


@dataclass(frozen=True, slots=True)
class Answer:
    """A small object. `tag` names this content to the next question; `date` is the mirror's time (ms), if it
    told.
    """

    content: bytes
    tag: str = ""
    date: int | None = None


class Unreachable(Failed):
    """A mirror gives no answer that can be used. `retry_after_s` is how long it asks to be left alone."""

    def __init__(self, what: str, *, why: str = "", hint: str = "", retry_after_s: float = 0) -> None:
        super().__init__(Code.REPOSITORY_UNREACHABLE, what, why=why, hint=hint)
        self.retry_after_s = retry_after_s


class Mirror(Protocol):
    """One mirror. Raises: Unreachable, Refused, from every coroutine."""

    address: str

    async def read(self, name: str, *, most: int, tag: str = "") -> Answer | None:
        """A small object; None if it is still the one with this tag. At most `most` + 1 bytes are read of it.

        Raises: also Unreachable, if there is none.
        """
        ...

    async def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        ...

    async def fetch(self, name: str, into: Partial) -> None:
        """Complete a file with the object's content, from where it ends now.

        Raises: also Refused(limit_exceeded), if the object is longer than the file; Failed(disk_full, disk_error).
        """
        ...

    async def put(self, name: str, content: bytes) -> None:
        """Store a small object, in place of the one before. Raises: Unreachable, where that is not possible."""
        ...

    async def bell(self, name: str) -> bool:
        """Wait until the bell of this name rings, or the mirror has waited long enough; whether it rang.

        Raises: Unreachable, also where there is no such bell.
        """
        ...

    async def close(self) -> None:
        """Let go of connections. It can be asked again."""
        ...


def too_long(address: str, size: int) -> Failed:
    """The refusal to read on: there is more than was signed."""
    return Failed(
        Code.LIMIT_EXCEEDED,
        f"{address} is longer than it may be",
        why=f"it has more than {size} bytes",
        hint="Find out who changed the repository, or what answers in its place",
    )
