"""What people and programs ask about an app: its status, its releases and deployments, its log.

Invariant: nothing here changes anything. JSON members are those of docs/reference/http-api.md.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

from agent.core.processes import instances
from agent.core.releases import Release, listing, rollback_targets
from agent.deploy.condition import Condition
from agent.deploy.deployment import Deployment, recorded
from agent.deploy.ground import Ground
from agent.deploy.in_force import InForce
from agent.deploy.lock import DeploymentLock
from agent.deploy.recovery import AppRecovery
from agent.host.ports import Clock, ProcessState, Service, SideProcesses, TimerState
from agent.host.releases.sbom import read_sbom
from agent.host.releases.store import Origin, ReleaseStore
from agent.host.storage.deployments import Record
from agent.host.storage.journal import Journal
from pusher.wire import ADDITIONS, Code, LogLine, LogUnit, Refused, format_timestamp

_VERSION = version("pusher-agent")
_HISTORY = 20
_AT_ONCE = 500
"""How many records of the history are read at a time."""


class Status:
    """Answers questions about one app. `host` is this host's name, `drop` the path of the drop directory."""

    def __init__(
        self,
        app: str,
        *,
        in_force: InForce,
        host: str,
        drop: str,
        lock: DeploymentLock,
        recovery: AppRecovery,
        store: ReleaseStore,
        service: Service,
        ground: Ground,
        condition: Condition,
        processes: SideProcesses,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._app = app
        self._in_force = in_force
        self._host = host
        self._drop = drop
        self._lock = lock
        self._recovery = recovery
        self._store = store
        self._service = service
        self._ground = ground
        self._condition = condition
        self._processes = processes
        self._journal = journal
        self._clock = clock

    async def summary(self) -> dict[str, Any]:
        """What is live, where a rollback would go, what is under way, and how the last deployment ended."""
        releases = {one.id: one for one in await self._journal.releases(self._app)}
        live = await asyncio.to_thread(self._store.live)
        newest = await self._journal.newest_accepted(self._app)
        targets, parts = rollback_targets(releases.values(), live=live), self._in_force.parts
        target, _ = await asyncio.to_thread(parts.revocations.until_allowed, targets)
        origins = await asyncio.to_thread(_origins, self._store, [live, target.id if target else None])
        deploying = self._lock.deployment
        last = await self._journal.history(self._app, most=1)
        processes, timers = await self._processes.states()
        run = await asyncio.to_thread(self._store.run, live) if live else None
        # Side by side: one reads files, the other waits for systemd, and the end of each `pusher send` for both.
        drift, warnings = await asyncio.gather(self._ground.drift(), self._ground.warnings())
        return {
            "app": self._app,
            "host": self._host,
            "agent": _VERSION,
            "accepts": list(ADDITIONS),
            "listen": parts.config.listen,
            "start": shlex.join(run.start) if run else "",
            "host_start": parts.config.start,
            "requirements": parts.config.dependencies.requirements,
            "drop": self._drop,
            "live": await self._live(releases.get(live), origins) if live else None,
            "previous": _short(target, origins),
            "running": self._service.running() is not None,
            "processes": [_process(one, releases) for one in processes],
            "timers": [_timer(one) for one in timers],
            "trouble": self._recovery.trouble,
            "disk": await self._condition.disk(),
            "drift": drift,
            "warnings": warnings,
            "newest_created": None if newest is None else format_timestamp(newest),
            "deploying": deploying.summary() if deploying else None,
            "last": _deployment(last[0]) if last else None,
            "history": await self.history(),
        }

    @property
    def log_units(self) -> tuple[str, ...]:
        """What the lines of the app's log can be from."""
        config = self._in_force.parts.config
        return (*LogUnit, *(one.name for one in instances(config)), *config.timers)

    async def health(self) -> dict[str, Any]:
        """What the app answers to its health check now."""
        return await self._condition.health()

    async def releases(self) -> dict[str, Any]:
        """The releases on disk, newest first, and the newest deployments."""
        known = await self._journal.releases(self._app)
        live = await asyncio.to_thread(self._store.live)
        revoked = await asyncio.to_thread(self._in_force.parts.revocations.among, known)
        target = next((one for one in rollback_targets(known, live=live) if one.id not in revoked), None)
        origins = await asyncio.to_thread(_origins, self._store, [one.id for one in known])
        return {
            "app": self._app,
            "releases": [
                {**_release(one, live=live, target=target, revoked=revoked), **origins[one.id]}
                for one in reversed(known)
            ],
            "deployments": [_deployment(one) for one in await self._journal.history(self._app, most=_HISTORY)],
            "history": await self.history(),
        }

    async def history(self) -> dict[str, Any]:
        """The head of the app's history, and `problem`: the first sign that it was changed, or empty."""
        problem = await self._journal.audit(self._app)
        return {**(await self._journal.head(self._app)).members(), "problem": problem}

    async def records(self, *, after: int) -> AsyncIterator[bytes]:
        """The records of the history after the one of this number, in order, each without a newline."""
        while lines := await self._journal.records(self._app, after=after, most=_AT_ONCE):
            for line in lines:
                yield line
            after += len(lines)

    async def index(self, release: str = "") -> AsyncIterator[bytes]:
        """The index that was signed for a release (the live one, if empty), in pieces of whole lines.

        Raises: Refused(unknown_release, release_damaged), before anything of it is read.
        """
        wanted = await self._known(release)
        try:
            pieces = await asyncio.to_thread(self._store.index, wanted)
        except OSError as error:
            what = f"The index of release {wanted} cannot be read"
            raise Refused(Code.RELEASE_DAMAGED, what, why=error.strerror or str(error)) from error
        return _read(pieces)

    async def sbom(self, release: str = "") -> dict[str, Any]:
        """What a release (the live one, if empty) consists of, as CycloneDX.

        Raises: Refused(unknown_release, release_damaged).
        """
        return await asyncio.to_thread(read_sbom, self._store.layout.release(await self._known(release)))

    def log(self, *, lines: int, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        """The app's own log; as `Service.log`."""
        return self._service.log(lines=lines, follow=follow, unit=unit)

    async def deployment(self, deployment: str) -> Deployment | None:
        """A deployment of this app by its id, running or past."""
        if (going := self._lock.deployment) and going.id == deployment:
            return going
        record = await self._journal.deployment(deployment)
        if record is None or record.attempt.app != self._app:
            return None
        return await recorded(record, journal=self._journal, clock=self._clock)

    async def of_manifest(self, manifest: str) -> Deployment | None:
        """The newest deployment of a manifest, named by its SHA-256, running or past."""
        record = await self._journal.of_manifest(self._app, manifest)
        return await self.deployment(record.attempt.id) if record else None

    async def _live(self, release: Release | None, origins: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
        """The live release, with who made it live, and since when: null if the journal does not tell."""
        members = _short(release, origins)
        if release is None or members is None:
            return None
        found = await self._journal.went_live(self._app, release.id)
        since = None if found is None or found.finished is None else format_timestamp(found.finished)
        return {**members, "since": since, "by": found.attempt.by if found else None}

    async def _known(self, release: str) -> str:
        """The id of a release, or of the live one. Raises: Refused(unknown_release)."""
        wanted: str | None = release
        if not release:
            wanted = await asyncio.to_thread(self._store.live)
        known = await self._journal.releases(self._app)
        if wanted is None or wanted not in {one.id for one in known}:
            what = f"{self._app} has no release {release}" if release else f"Nothing of {self._app} is live"
            raise Refused(Code.UNKNOWN_RELEASE, what, hint=f"Available: {listing(known)}")
        return wanted

    async def idle(self) -> None:
        """Return when no deployment is under way."""
        await self._lock.free()

    @property
    def ended(self) -> int:
        """How many deployments have ended since the agent started."""
        return self._lock.ended

    async def another(self, *, after: int) -> None:
        """Return when more than `after` deployments have ended."""
        await self._lock.another(after=after)


async def _read(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


def _origins(store: ReleaseStore, releases: Iterable[str | None]) -> dict[str, dict[str, Any]]:
    """Where each release comes from, as the disk has it: manifest, commit, signer; each may be None. Blocking."""
    return {release: _origin(store.origin(release)) for release in releases if release}


def _origin(found: Origin) -> dict[str, Any]:
    return {
        "manifest": found.manifest or None,
        "source": found.source.members() if found.source else None,
        "signed_by": found.signer or None,
        "size": found.size,
        "lock": found.lock or None,
    }


def _short(release: Release | None, origins: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    if release is None:
        return None
    return {"release": release.id, "version": release.version, **origins.get(release.id, _origin(Origin()))}


def _process(state: ProcessState, releases: Mapping[str, Release]) -> dict[str, Any]:
    known = releases.get(state.release)
    return {
        "name": state.name,
        "running": state.running,
        "release": state.release or None,
        "version": known.version if known else None,
        "pid": state.pid,
        "why": state.why,
    }


def _timer(state: TimerState) -> dict[str, Any]:
    return {
        "name": state.name,
        "schedule": state.schedule,
        "running": state.running,
        "last": None if state.last is None else format_timestamp(state.last),
        "next": None if state.next is None else format_timestamp(state.next),
        "ending": state.ending,
    }


def _release(
    release: Release, *, live: str | None, target: Release | None, revoked: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "id": release.id,
        "version": release.version,
        "standing": release.standing.value,
        "live": release.id == live,
        "fallback": release == target,
        "pinned": release.pinned,
        "revoked": revoked.get(release.id),
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
        "manifest": record.manifest or None,
        "outcome": record.phase.value if record.finished is not None else None,
        "by": attempt.by,
        "started": format_timestamp(record.started),
        "ms": record.ms,
    }
    if record.problem:
        members["problem"] = record.problem
    return members
