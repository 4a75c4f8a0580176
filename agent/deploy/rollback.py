"""Where a rollback goes.

Invariant: the target is intact, and is not the live release. If the caller named none, it was confirmed good, and
nobody rolled back from it. The caller learns which releases were passed over because they are damaged.
"""

import asyncio
from collections.abc import Sequence

import structlog

from agent.core.releases import Release, listing, rollback_targets
from agent.host.releases.store import ReleaseStore
from agent.host.storage.journal import Journal
from pusher.wire import Code, Problem, Refused

_log = structlog.get_logger()


async def target(
    app: str, to: str | None, *, store: ReleaseStore, journal: Journal
) -> tuple[Release, Problem | None]:
    """The release to roll back to (`to`, or the newest intact rollback target), and what was passed over for it.

    Raises: Refused.
    """
    releases = await journal.releases(app)
    live = await asyncio.to_thread(store.live)
    others = [one for one in releases if one.id != live]
    what = f"{app} cannot go back to {to}" if to else f"{app} has nothing to roll back to"
    named = f"Name another release (`to`). Available: {listing(others)}. Or send" if others else "Send"
    hint = f"{named} a good version"
    candidates = rollback_targets(releases, live=live) if to is None else [one for one in others if one.id == to]
    if not candidates and to is not None:
        why = "it is the live release" if to == live else "there is no such release here"
        raise Refused(Code.UNKNOWN_RELEASE, what, why=why, hint=hint)
    damaged: list[str] = []
    for one in candidates:
        difference = await asyncio.to_thread(store.intact, one.id)
        if not difference:
            return one, _passed_over(damaged)
        _log.warning("release_damaged", app=app, release=one.id, difference=difference)
        damaged.append(f"release {one.id} ({one.version}) is damaged: {difference}")
    if damaged:
        raise Refused(Code.RELEASE_DAMAGED, what, why="; ".join(damaged), hint=hint)
    why = "no older release was confirmed good, or all of them were rolled back from"
    raise Refused(Code.NOTHING_TO_ROLL_BACK_TO, what, why=why, hint=hint)


async def check_live(app: str, release: str, *, store: ReleaseStore) -> None:
    """Check that `release`, which the caller wants to leave, is live. Raises: Refused(not_live)."""
    live = await asyncio.to_thread(store.live)
    if live != release:
        raise Refused(
            Code.NOT_LIVE,
            f"{app} is not at release {release} any more",
            why=f"release {live} is live" if live else "nothing is live",
            hint="Nothing was changed. To roll back all the same, leave out `from`",
        )


def _passed_over(damaged: Sequence[str]) -> Problem | None:
    if not damaged:
        return None
    return Refused(
        Code.RELEASE_DAMAGED,
        "This is not the newest release that was good",
        why="; ".join(damaged),
        hint="Send that version again to have it whole",
    )
