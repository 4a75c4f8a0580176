"""The names of the objects in a repository, and what each is.

Invariant: a name that is none of these leads nowhere.
"""

import re
from enum import Enum


class Kind(Enum):
    """What an object is."""

    BUNDLE = "bundles"
    CHANNEL = "channels"
    BRAKE = "brakes"
    RELEASES = "releases"
    REPORT = "reports"


_NAMES = (
    (Kind.BUNDLE, re.compile(r"bundles/([0-9a-f]{64})\.tar\.zst", re.ASCII)),
    (
        Kind.CHANNEL,
        re.compile(r"channels/([a-z][a-z0-9-]{0,29}[a-z0-9])/([a-z][a-z0-9-]{0,29}[a-z0-9])", re.ASCII),
    ),
    (Kind.BRAKE, re.compile(r"brakes/([a-z][a-z0-9-]{0,29}[a-z0-9])/([a-z][a-z0-9-]{0,29}[a-z0-9])", re.ASCII)),
    (Kind.RELEASES, re.compile(r"releases/([a-z][a-z0-9-]{0,29}[a-z0-9])\.json", re.ASCII)),
    (
        Kind.REPORT,
        re.compile(r"reports/([a-z][a-z0-9-]{0,29}[a-z0-9])/([A-Za-z0-9][A-Za-z0-9._-]{0,252})", re.ASCII),
    ),
)
_BELL = re.compile(r"bells/([a-z][a-z0-9-]{0,29}[a-z0-9]/[a-z][a-z0-9-]{0,29}[a-z0-9])", re.ASCII)


def kind_of(name: str) -> tuple[Kind, tuple[str, ...]] | None:
    """What the object of this name is, and the parts of the name: digest; app and channel; app; app and host."""
    if ".." in name:
        return None
    for kind, pattern in _NAMES:
        if found := pattern.fullmatch(name):
            return kind, found.groups()
    return None


def channel_of(bell: str) -> str | None:
    """The name of the channel document that a bell is about."""
    found = _BELL.fullmatch(bell)
    return f"channels/{found[1]}" if found else None
