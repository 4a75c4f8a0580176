"""Which releases there are, which one to fall back to, and which may go.

Invariant: every answer follows from the records alone; ids order releases in time, names and mtimes never do.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """What became of a release. Only a good one is ever fallen back to without being named."""

    CANDIDATE = "candidate"  # being deployed, or found on disk and never confirmed
    GOOD = "good"  # it was live and answered
    WITHDRAWN = "withdrawn"  # it was good, and somebody rolled back from it
    FAILED = "failed"  # it was switched to and did not answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release of an app. `created` is its manifest's, in ms since 1970; `venv` is a key, or empty."""

    id: str
    version: str
    standing: Standing
    created: int
    pinned: bool = False
    venv: str = ""
    by: str = ""


def rollback_targets(releases: Iterable[Release], *, live: str | None) -> list[Release]:
    """The releases that a rollback may go to unnamed, the first choice first: good, older than the live one."""
    good = [one for one in releases if one.standing is Standing.GOOD and (live is None or one.id < live)]
    return sorted(good, key=lambda one: one.id, reverse=True)


def surplus(releases: Iterable[Release], *, live: str | None, keep: int) -> list[Release]:
    """The releases that retention lets go, oldest first.

    Kept are: the live one, its fallback, pinned ones, the `keep` newest good ones, and, for inspection, the
    `keep` newest others, unless there are `keep` good ones newer than they are.
    """
    newest_first = sorted(releases, key=lambda one: one.id, reverse=True)
    good = [one.id for one in newest_first if one.standing is Standing.GOOD or one.id == live]
    kept = {live, *good[:keep], *(one.id for one in rollback_targets(newest_first, live=live)[:1])}
    oldest = good[keep - 1] if len(good) >= keep else ""
    inspected = [one.id for one in newest_first if one.id not in good and one.id > oldest]
    kept |= {*inspected[:keep], *(one.id for one in newest_first if one.pinned)}
    return [one for one in reversed(newest_first) if one.id not in kept]
