"""What lies in a folder and does not travel, in words.

Invariant: what a default rule leaves out is named, so that nobody misses a file without having read of it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pusher.bundle.ignore import IGNORE_NAME, SECRETS, VERSION_CONTROL

UNTRACKED = ""
"""The pattern of what git does not track."""

_NAMES = 8


class LeftOut(NamedTuple):
    """A file or folder (with a slash) that does not travel, and by which pattern. `own`: it is the folder's."""

    path: str
    pattern: str
    own: bool


def default_line(left_out: Iterable[LeftOut]) -> Iterator[str]:
    """The line about what the default rules leave out; none if they leave out nothing that people look for."""
    unsaid = {IGNORE_NAME, *VERSION_CONTROL}
    found = [one for one in left_out if one.pattern and not one.own and one.pattern not in unsaid]
    secret = [one.path for one in found if one.pattern in SECRETS]
    # Folders like __pycache__ are in every folder: their name stands for all of them.
    others = Counter(_name(one.path) for one in found if one.pattern not in SECRETS)
    names = [*secret, *(name if times == 1 else f"{name} ({times} times)" for name, times in others.items())]
    if names:
        yield f"left out by default: {named(names)} (see: pusher ignored)"


def untracked_line(left_out: Iterable[LeftOut], *, untracked: Iterable[str]) -> Iterator[str]:
    """The line about what git neither tracks nor ignores, and is left out for that."""
    known, folders = set(untracked), tuple(one for one in untracked if one.endswith("/"))
    found = [one.path for one in left_out if one.pattern == UNTRACKED]
    names = [path for path in found if path in known or path.startswith(folders)]
    if names:
        yield f"left out, because git does not track it: {named(names)}"


def differing_line(differing: Iterable[str]) -> Iterator[str]:
    """The line about what is sent otherwise than it was committed."""
    if names := list(differing):
        yield f"sent as it is, not as committed: {named(names)}"


def named(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")


def _name(path: str) -> str:
    return path[path.rfind("/", 0, -1) + 1 :]
