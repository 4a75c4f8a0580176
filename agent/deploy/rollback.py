"""Where a rollback goes.

Invariant: the target is intact, its keys still count, its venv runs or can be made anew, and it is not the live
release. If the caller named none, it was confirmed good, and nobody rolled back from it. A damaged release is not
passed over, nor is one whose keys cannot be checked now: that would go further back than asked. One whose keys
have ended is, and the caller learns of it.
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

_BY_ROOT = "Or let root name the release in allow_revoked, in the app's file"

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
    """The release to roll back to (`to`, or the newest rollback target), and what was passed over for it.

    `to` is an id, or a version that one release here has, or one good one. Raises: Refused; Failed(timed_out).
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
    revoked: list[str] = []
    for at, one in enumerate(candidates):
        if why := await asyncio.to_thread(revocations.why, one.id, sure=True):
            _log.warning("release_revoked", app=app, release=one.id, why=why)
            revoked.append(f"the keys of release {one.id} ({one.version}) ended: {why}")
            continue
        if problem := await _unfit(one, store=store, venvs=venvs, older=candidates[at + 1 :]):
            _log.warning("release_unfit", app=app, release=one.id, why=problem.why)
            raise Refused(
                problem.code, what if to else f"{app} is not rolled back", why=problem.why, hint=problem.hint
            )
        return one, _passed_over(revoked)
    if revoked:
        raise Refused(Code.SIGNER_REVOKED, what, why="; ".join(revoked), hint=f"{hint}. {_BY_ROOT}")
    why = "no older release was confirmed good, or all of them were rolled back from"
    if live is None and not releases:
        why = "nothing was ever deployed here"
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


async def _unfit(
    release: Release, *, store: ReleaseStore, venvs: Venvs, older: Sequence[Release]
) -> Refused | None:
    """Why a release cannot be gone back to. No older one is taken instead: nobody has asked for that."""
    further = f". To go back further: --to {older[0].id} ({older[0].version})" if older else ""
    if difference := await asyncio.to_thread(store.intact, release.id):
        return Refused(
            Code.RELEASE_DAMAGED,
            "It is not as it was sent",
            why=f"release {release.id} ({release.version}) is not as it was sent: {difference}",
            hint=f"{_written(difference)}Send that version again to have it whole{further}",
        )
    if lost := await _lost(venvs, store.layout.release(release.id)):
        return Refused(
            Code.DEPENDENCIES_FAILED,
            "It cannot run",
            why=f"release {release.id} ({release.version}) cannot run: {lost}",
            hint=f"Send that version again{further}",
        )
    return None


def _written(difference: str) -> str:
    """What to do about a file of the release that the app itself may have changed."""
    path, changed, _ = difference.partition(" has changed")
    return f"If the app writes {path}, put it into shared_files of the app's file. " if changed else ""


async def _lost(venvs: Venvs, release: Path) -> str:
    """Why a release cannot run, because its Python is gone and its venv cannot be made anew; empty if it can."""
    if (lost := await venvs.why_lost(release)) and (hindrance := await venvs.why_not_renewed(release)):
        return f"{lost}, and its venv is not made anew: {hindrance}"
    return ""


def _passed_over(revoked: Sequence[str]) -> Problem | None:
    if not revoked:
        return None
    return Refused(
        Code.SIGNER_REVOKED,
        "This is not the newest release that was good",
        why="; ".join(revoked),
        hint=f"Send that version again, signed by a key that counts. {_BY_ROOT}",
    )
