"""What every kind of repository can do.

Invariant: an object is whole or it is not there. A bundle never changes. What changes (a channel, a list of
releases) is replaced only if it is still what the caller has read.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from pusher.wire import Code, Refused


class Found(NamedTuple):
    """An object that was read. `tag` names exactly this content to `replace`."""

    content: bytes
    tag: str


class Item(NamedTuple):
    """An object in a listing. `modified` in seconds since 1970."""

    name: str
    size: int
    modified: float


class Repository(Protocol):
    """A repository. Raises: Usage, Unreachable, Failed, from every method."""

    address: str
    """How people name it."""

    def read(self, name: str, *, most: int) -> Found | None:
        """A small object, None if there is none. Raises: also Refused(limit_exceeded), above `most` bytes."""
        ...

    def stream(self, name: str) -> AbstractContextManager[Iterator[bytes]]:
        """The content of an object, in pieces. Raises: also Refused(unknown_release), if there is none."""
        ...

    def put(self, name: str, file: Path) -> bool:
        """Store a file under a name that says what is in it. False if it is there already."""
        ...

    def replace(self, name: str, content: bytes, *, tag: str | None) -> None:
        """Store a small object in place of the one with `tag`; None: there must be none yet.

        Raises: also Refused(channel_changed), if another one is there by now.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        ...

    def names(self, prefix: str) -> list[Item]:
        """The objects whose names begin with `prefix`, sorted. Raises: also Usage, where that cannot be asked."""
        ...

    def unfinished(self) -> list[Item]:
        """What is left of writes that were cut off, sorted. `remove` takes their names."""
        ...


def changed_meanwhile(name: str) -> Refused:
    """The refusal to replace an object that is not the one that was read."""
    return Refused(
        Code.CHANNEL_CHANGED,
        f"{name} was changed meanwhile",
        why="another publisher was first",
        hint="Nothing was lost. Run the command again to go on from what is there now",
    )


def too_large(name: str, most: int) -> Refused:
    """The refusal of an object that is larger than anything of its kind."""
    return Refused(Code.LIMIT_EXCEEDED, f"{name} is too large", why=f"it has more than {most} bytes")


def missing(name: str) -> Refused:
    """The refusal to read an object that is not there."""
    return Refused(
        Code.UNKNOWN_RELEASE, f"The repository has no {name}", hint="Was it pruned? Publish that version again"
    )
