"""Where a rollback goes.

Invariant: to a release that is intact, and other than the live one; unless it is named, to one that was confirmed
good and was not rolled back from.
"""

import asyncio

import structlog

from agent import overview
from agent.core.releases import Release, fallbacks
from agent.host.journal import Journal
from agent.host.shelf import Shelf
from pusher.wire import Code, Refused

_log = structlog.get_logger()


async def target(app: str, to: str | None, *, shelf: Shelf, journal: Journal) -> Release:
    """The release to roll back to: the one named, or the newest intact fallback. Raises: Refused."""
    releases = await journal.releases(app)
    live = await asyncio.to_thread(shelf.live)
    others = [one for one in releases if one.id != live]
    what = f"{app} cannot go back to {to}" if to else f"{app} has nothing to roll back to"
    named = f"Name another release (`to`): there are {overview.names(others)}. Or send" if others else "Send"
    hint = f"{named} a good version"
    candidates = fallbacks(releases, live=live) if to is None else [one for one in others if one.id == to]
    if not candidates and to is not None:
        why = "it is the live release" if to == live else "there is no such release here"
        raise Refused(Code.UNKNOWN_RELEASE, what, why=why, hint=hint)
    why = "no older release was confirmed good, or each was rolled back from"
    for one in candidates:
        difference = await asyncio.to_thread(shelf.intact, one.id)
        if not difference:
            return one
        _log.warning("release_damaged", app=app, release=one.id, difference=difference)
        why = f"release {one.id} is damaged: {difference}"
    code = Code.RELEASE_DAMAGED if candidates else Code.NOTHING_TO_ROLL_BACK_TO
    raise Refused(code, what, why=why, hint=hint)


async def check_live(app: str, release: str, *, shelf: Shelf) -> None:
    """Raises: Refused(not_live), if another release is live than the one that is to be left."""
    live = await asyncio.to_thread(shelf.live)
    if live != release:
        raise Refused(
            Code.NOT_LIVE,
            f"{app} is not at release {release} any more",
            why=f"release {live} is live" if live else "nothing is live",
            hint="Nothing was changed. To roll back all the same, leave out `from`",
        )
