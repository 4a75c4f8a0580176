"""Where a rollback goes.

Invariant: the target is intact, its keys still count, its venv runs or can be made anew, and it is not the live
release. If the caller named none, it was confirmed good, and nobody rolled back from it. The caller learns which
releases were passed over because they are damaged or revoked, or have lost their Python.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog

from agent.core.releases import Release, Standing, listing, rollback_targets
from agent.host.dependencies.venvs import Venvs
from agent.host.releases.revocations import Revocations
from agent.host.releases.store import ReleaseStore
from agent.host.storage.journal import Journal
from pusher.wire import Code, Problem, Refused

_log = structlog.get_logger()


async def target(
    app: str,
    to: str | None,
    *,
    store: ReleaseStore,
    venvs: Venvs,
    revocations: Revocations,
    journal: Journal,
) -> tuple[Release, Problem | None]:
    """The release to roll back to (`to`, or the newest intact rollback target), and what was passed over for it.

    `to` is an id, or a version that one release here has, or one good one. Raises: Refused.
    """
    releases = await journal.releases(app)
    live = await asyncio.to_thread(store.live)
    others = [one for one in releases if one.id != live]
    what = f"{app} cannot go back to {to}" if to else f"{app} has nothing to roll back to"
    named = f"Name another release (`to`). Available: {listing(others)}. Or send" if others else "Send"
    hint = f"{named} a good version"
    candidates = rollback_targets(releases, live=live) if to is None else _named(others, to)
    if len(candidates) > 1 and to is not None:
        why = f"several releases have that version: {listing(candidates)}"
        raise Refused(Code.UNKNOWN_RELEASE, what, why=why, hint="Name one by its id")
    if not candidates and to is not None:
        is_live = any(to in (one.id, one.version) for one in releases if one.id == live)
        why = "it is the live release" if is_live else "there is no such release here"
        raise Refused(Code.UNKNOWN_RELEASE, what, why=why, hint=hint)
    found: list[tuple[Code, str]] = []
    for one in candidates:
        if revoked := await asyncio.to_thread(revocations.why, one.id):
            _log.warning("release_revoked", app=app, release=one.id, why=revoked)
            found.append((Code.SIGNER_REVOKED, f"the keys of release {one.id} ({one.version}) ended: {revoked}"))
            continue
        if difference := await asyncio.to_thread(store.intact, one.id):
            _log.warning("release_damaged", app=app, release=one.id, difference=difference)
            found.append((Code.RELEASE_DAMAGED, f"release {one.id} ({one.version}) is damaged: {difference}"))
            continue
        if lost := await _lost(venvs, store.layout.release(one.id)):
            _log.warning("python_lost", app=app, release=one.id, why=lost)
            found.append((Code.DEPENDENCIES_FAILED, f"release {one.id} ({one.version}) cannot run: {lost}"))
            continue
        return one, _passed_over(found)
    if found:
        raise Refused(found[0][0], what, why=_reasons(found), hint=hint + _hint(found))
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


def _named(releases: Sequence[Release], to: str) -> list[Release]:
    """The release with this id; else those with this version, only good ones if there are some."""
    found = [one for one in releases if one.id == to] or [one for one in releases if one.version == to]
    return [one for one in found if one.standing is Standing.GOOD] or found


async def _lost(venvs: Venvs, release: Path) -> str:
    """Why a release cannot run, because its Python is gone and its venv cannot be made anew; empty if it can."""
    if (lost := await venvs.why_lost(release)) and (hindrance := await venvs.why_not_renewed(release)):
        return f"{lost}, and its venv is not made anew: {hindrance}"
    return ""


def _passed_over(found: Sequence[tuple[Code, str]]) -> Problem | None:
    if not found:
        return None
    return Refused(
        found[0][0],
        "This is not the newest release that was good",
        why=_reasons(found),
        hint="Send that version again to have it whole" + _hint(found),
    )


def _reasons(found: Sequence[tuple[Code, str]]) -> str:
    return "; ".join(reason for _, reason in found)


def _hint(found: Sequence[tuple[Code, str]]) -> str:
    if all(code is not Code.SIGNER_REVOKED for code, _ in found):
        return ""
    return ". Or let root name the release in allow_revoked, in the app's file"
