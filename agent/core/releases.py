"""What became of each release, where a rollback may go, and which releases may be deleted.

Invariant: everything follows from the records alone. Ids order releases in time; names and mtimes never do.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """What became of a release. A rollback that names no release goes to good ones only."""

    CANDIDATE = "candidate"  # being deployed, or found on disk and never confirmed
    GOOD = "good"  # it was live and answered
    WITHDRAWN = "withdrawn"  # it was good, then an operator rolled back from it
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
    """The releases that a rollback may choose by itself, the first choice first: good, older than the live one."""
    good = [one for one in releases if one.standing is Standing.GOOD and (live is None or one.id < live)]
    return sorted(good, key=lambda one: one.id, reverse=True)


def surplus(
    releases: Iterable[Release],
    *,
    live: str | None,
    keep: int,
    revoked: Collection[str] = (),
    previous: str | None = None,
) -> list[Release]:
    """The releases that retention deletes, oldest first.

    Retention keeps the live release, its rollback target, pinned releases and the `keep` newest good ones. For
    inspection it keeps the `keep` newest others too, unless `keep` good ones are newer. A release in `revoked` is
    no rollback target. `previous` was live until now: it stays, whatever a journal that was restored says of it.
    """
    newest_first = sorted(releases, key=lambda one: one.id, reverse=True)
    good = [one.id for one in newest_first if one.standing is Standing.GOOD or one.id == live]
    targets = [one.id for one in rollback_targets(newest_first, live=live) if one.id not in revoked]
    kept = {live, previous, *good[:keep], *targets[:1]}
    oldest = good[keep - 1] if len(good) >= keep else ""
    inspected = [one.id for one in newest_first if one.id not in good and one.id > oldest]
    kept |= {*inspected[:keep], *(one.id for one in newest_first if one.pinned)}
    return [one for one in reversed(newest_first) if one.id not in kept]


def listing(releases: Sequence[Release]) -> str:
    """Ids and versions, for a message; a release that is not good has its standing added."""
    return ", ".join(f"{one.id} ({one.version}{_unless_good(one)})" for one in releases) or "none"


def _unless_good(release: Release) -> str:
    return "" if release.standing is Standing.GOOD else f", {release.standing.value}"
