"""What the doors tell about an app: its state and its releases, as JSON members (docs/reference/http-api.md)."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from importlib.metadata import version
from typing import Any

from agent.core.config import AppConfig
from agent.core.releases import Release, Standing, rollback_targets
from agent.deploy.deployment import Deployment
from agent.host.ports import Service
from agent.host.releases.store import ReleaseStore
from agent.host.storage.journal import Journal, Record
from pusher.wire import Code, Refused, format_timestamp

_VERSION = version("pusher-agent")
_HISTORY = 20


async def status(
    app: str,
    *,
    host: str,
    config: AppConfig,
    store: ReleaseStore,
    journal: Journal,
    service: Service,
    deploying: Deployment | None,
    trouble: str,
    drop: str,
) -> dict[str, Any]:
    """What is live, what it would fall back to, what is under way, and how the last deployment ended."""
    releases = {one.id: one for one in await journal.releases(app)}
    live = await asyncio.to_thread(store.live)
    newest = await journal.newest_accepted(app)
    running = service.running()
    last = await journal.history(app, most=1)
    return {
        "app": app,
        "host": host,
        "agent": _VERSION,
        "listen": config.listen,
        "requirements": config.dependencies.requirements,
        "drop": drop,
        "live": _short(releases.get(live)) if live else None,
        "previous": _short(next(iter(rollback_targets(releases.values(), live=live)), None)),
        "running": running is not None,
        "trouble": trouble,
        "newest_created": None if newest is None else format_timestamp(newest),
        "deploying": deploying.summary() if deploying else None,
        "last": _deployment(last[0]) if last else None,
    }


async def releases(app: str, *, store: ReleaseStore, journal: Journal) -> dict[str, Any]:
    """The releases on disk, newest first, and the newest deployments."""
    known = await journal.releases(app)
    live = await asyncio.to_thread(store.live)
    fallback = next(iter(rollback_targets(known, live=live)), None)
    return {
        "app": app,
        "releases": [_release(one, live=live, fallback=fallback) for one in reversed(known)],
        "deployments": [_deployment(one) for one in await journal.history(app, most=_HISTORY)],
    }


async def index(app: str, release: str, *, store: ReleaseStore, journal: Journal) -> AsyncIterator[bytes]:
    """The index that was signed for a release (the live one, if empty), in pieces of whole lines.

    Raises: Refused(unknown_release, release_damaged), before anything of it is read.
    """
    wanted: str | None = release
    if not release:
        wanted = await asyncio.to_thread(store.live)
    known = await journal.releases(app)
    if wanted is None or wanted not in {one.id for one in known}:
        what = f"{app} has no release {release}" if release else f"Nothing of {app} is live"
        raise Refused(Code.UNKNOWN_RELEASE, what, hint=f"There are: {names(known)}")
    try:
        pieces = await asyncio.to_thread(store.index, wanted)
    except OSError as error:
        what = f"The index of release {wanted} cannot be read"
        raise Refused(Code.RELEASE_DAMAGED, what, why=error.strerror or str(error)) from error
    return _read(pieces)


def names(known: Sequence[Release]) -> str:
    """Ids and versions, for a message; and what became of those that are not good."""
    return ", ".join(f"{one.id} ({one.version}{_unless_good(one)})" for one in known) or "none"


async def _read(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


def _unless_good(release: Release) -> str:
    return "" if release.standing is Standing.GOOD else f", {release.standing.value}"


def _short(release: Release | None) -> dict[str, Any] | None:
    return {"release": release.id, "version": release.version} if release else None


def _release(release: Release, *, live: str | None, fallback: Release | None) -> dict[str, Any]:
    return {
        "id": release.id,
        "version": release.version,
        "standing": release.standing.value,
        "live": release.id == live,
        "fallback": release == fallback,
        "pinned": release.pinned,
        "created": format_timestamp(release.created),
        "venv": release.venv,
        "by": release.by,
    }


def _deployment(record: Record) -> dict[str, Any]:
    attempt = record.attempt
    members: dict[str, Any] = {
        "deployment": attempt.id,
        "kind": attempt.kind.value,
        "version": attempt.version,
        "release": attempt.release,
        "outcome": record.phase.value if record.finished is not None else None,
        "by": attempt.by,
        "started": format_timestamp(record.started),
        "ms": None if record.finished is None else record.finished - record.started,
    }
    if record.problem:
        members["problem"] = record.problem
    return members
