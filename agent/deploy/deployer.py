"""What changes the releases of an app: all doors end in the same `submit`.

Invariant: one deployment at a time. What is refused here has changed nothing. What has begun runs to its end; if
the agent dies before, the next start recovers it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from agent.core.layout import next_release_id
from agent.core.phases import Phase
from agent.core.plan import Attempt, Kind, deployment_id, time_id
from agent.core.releases import listing
from agent.deploy import rollback
from agent.deploy.admission import VerifiedManifest
from agent.deploy.deployment import Deployment, recorded
from agent.deploy.ground import Ground
from agent.deploy.in_force import InForce, Parts
from agent.deploy.lock import DeploymentLock
from agent.deploy.recovery import AppRecovery
from agent.host.own_process import give_back
from agent.host.ports import Bundle, Clock, Differs, Service
from agent.host.releases.store import ReleaseStore
from agent.host.storage.journal import Journal
from pusher.wire import Code, Problem, Refused

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Send:
    """A bundle to make live. `by` names the sender, for people.

    `verified` is its manifest, if a door has read it from this bundle and verified it already. It is what counts
    from then on: these bytes are stored with the release, and index and files must be the ones it names.
    """

    bundle: Bundle
    by: str
    verified: VerifiedManifest | None = None


@dataclass(frozen=True, slots=True)
class Rollback:
    """An older release to make live: `to`, or else the rollback target. `leaving`, if given, must be live."""

    by: str
    to: str | None = None
    leaving: str | None = None


class Deployer:
    """Changes the releases of one app."""

    def __init__(
        self,
        app: str,
        *,
        in_force: InForce,
        recovery: AppRecovery,
        lock: DeploymentLock,
        store: ReleaseStore,
        service: Service,
        ground: Ground,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._app = app
        self._in_force = in_force
        self._recovery = recovery
        self._lock = lock
        self._store = store
        self._service = service
        self._ground = ground
        self._journal = journal
        self._clock = clock
        self._running: asyncio.Task[None] | None = None
        self._stopping = False

    async def submit(self, request: Send | Rollback) -> Deployment:
        """Begin a deployment and return it as it runs; it needs no watcher.

        If the manifest of a bundle was deployed before, and is live, returns that deployment.
        Raises: Refused, with nothing changed; Failed, if the journal cannot be written.
        """
        if self._stopping:
            raise Refused(Code.STOPPING, "The agent is stopping", hint="Try again when it is up")
        if isinstance(request, Rollback):
            return await self._roll_back(request)
        verified = request.verified or await self._in_force.receive(request.bundle)
        return await self._past(verified) or await self._deploy(request, verified)

    def cancel(self, *, by: str, deployment: str = "") -> Deployment:
        """End the deployment that is under way, or only this one. It is returned while it is being taken back.

        Raises: Refused(unknown_deployment) if there is none; Refused(too_late) if something live was changed.
        """
        going = self._lock.deployment
        if going is None or deployment not in ("", going.id):
            what = f"Nothing of {self._app} is being deployed"
            if deployment:
                what = f"Deployment {deployment} is not under way"
            hint = "Try again in a moment: one is about to begin" if self._lock.held and not going else ""
            raise Refused(Code.UNKNOWN_DEPLOYMENT, what, hint=hint or "`pusher status` says what is live")
        if going.phase not in (Phase.VERIFIED, Phase.DISCARDING, Phase.RETURNING):
            raise Refused(
                Code.TOO_LATE,
                f"{self._app} {going.attempt.version} cannot be cancelled any more",
                why="it is going live; if it is not well, it is taken back by itself",
                hint="When it has ended, `pusher rollback` goes back",
            )
        if going.phase is Phase.VERIFIED:
            going.cancel(by=by)
            _log.info("deployment_cancelled", app=self._app, deployment=going.id, by=by)
        return going

    async def missing(self, bundle: Bundle) -> list[str]:
        """The SHA-256 of all files that a bundle with this manifest and index must bring along. Changes nothing.

        Raises: Refused, wherever `submit` would refuse the bundle before it reads files.
        """
        verified = await self._in_force.receive(bundle)
        if await self._past(verified):
            return []
        self._lock.check_free()
        await self._in_force.check(verified, retry=await self._tried(verified))
        await asyncio.to_thread(self._ground.check)
        await self._service.ready()
        entries = self._in_force.entries(verified, bundle)
        return await asyncio.to_thread(self._store.missing, entries)

    async def pin(self, release: str, *, pinned: bool, by: str) -> None:
        """Protect a release from retention, or no longer. Raises: Refused(unknown_release)."""
        if not await self._journal.pin(self._app, release, pinned=pinned, by=by):
            known = listing(await self._journal.releases(self._app))
            raise Refused(
                Code.UNKNOWN_RELEASE, f"{self._app} has no release {release}", hint=f"Available: {known}"
            )
        _log.info("release_pinned" if pinned else "release_unpinned", app=self._app, release=release, by=by)

    async def command_began(self, run: str, *, by: str, release: str, command: str) -> None:
        """Record that root runs a command for a person, which this agent has no part in."""
        now = self._clock.now()
        await self._journal.command_began(self._app, run, by=by, release=release, command=command, now=now)
        _log.info("command_began", app=self._app, run=run, by=by, release=release, command=command)

    async def command_ended(self, run: str, *, code: int) -> None:
        """Record its exit code."""
        await self._journal.command_ended(self._app, run, code=code, now=self._clock.now())
        _log.info("command_ended", app=self._app, run=run, code=code)

    async def stop(self, *, grace_s: float) -> None:
        """Accept nothing more. A deployment that is not live yet is taken back; any gets `grace_s` seconds to end.

        The next start recovers one that has not ended by then.
        """
        self._stopping = True
        self._recovery.stop()
        if self._running is None or self._lock.deployment is None:
            return
        running, deployment = self._running, self._lock.deployment
        deployment.interrupted.set()
        _, late = await asyncio.wait([running], timeout=grace_s)
        if late:
            _log.warning(
                "deployment_left", app=self._app, deployment=deployment.id, todo="recover at the next start"
            )
        running.cancel()
        await asyncio.wait([running])

    async def _deploy(self, request: Send, verified: VerifiedManifest) -> Deployment:
        manifest = verified.manifest
        self._lock.acquire(by=request.by, doing=f"deploying {manifest.version}")
        try:
            await self._recovery.make_way()
            parts = await self._in_force.read(holding=True)
            async with self._asked() as ready:
                await parts.admission.check(verified, retry=await self._tried(verified))
                await asyncio.to_thread(self._ground.check)
                await ready
            warning = await self._ground.not_in_force()
            await parts.retention.make_room(size=manifest.unpacked_size, files=manifest.files)
            attempt = await self._attempt(Kind.DEPLOY, manifest.version, by=request.by, manifest=verified.digest)
            staged = self._store.layout.staged(attempt.release)
            try:
                await asyncio.to_thread(parts.admission.store, verified, request.bundle, staged)
                await self._journal.begin(
                    attempt, manifest=verified.digest, created=manifest.created, now=self._clock.now()
                )
            except Problem:
                await asyncio.to_thread(parts.admission.discard, staged)
                raise
        except BaseException:
            self._lock.release()
            raise
        begun = parts.executor.begin(attempt, verified=verified, warning=warning)
        return self._start(begun, parts, bundle=request.bundle)

    async def _roll_back(self, request: Rollback) -> Deployment:
        self._lock.acquire(by=request.by, doing="rolling back")
        try:
            await self._recovery.make_way()
            if request.leaving is not None:
                await rollback.check_live(self._app, request.leaving, store=self._store)
            parts, unread = await self._parts_for_rollback()
            async with self._asked() as ready:
                target, passed_over = await rollback.target(
                    self._app,
                    request.to,
                    store=self._store,
                    venvs=parts.venvs,
                    revocations=parts.revocations,
                    journal=self._journal,
                )
                await asyncio.to_thread(self._ground.check)
                try:
                    await ready
                except Differs as problem:
                    unread = problem
            manifest = await asyncio.to_thread(self._store.manifest, target.id)
            attempt = await self._attempt(
                Kind.ROLLBACK, target.version, by=request.by, manifest=manifest, release=target.id
            )
            await self._journal.begin(attempt, manifest=manifest, created=0, now=self._clock.now())
        except BaseException:
            self._lock.release()
            raise
        return self._start(parts.executor.begin(attempt, warning=passed_over or unread), parts)

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator["asyncio.Task[None]"]:
        """Whether the service is ready, which it finds out meanwhile; what the block raises comes first."""
        ready = asyncio.create_task(self._service.ready())
        try:
            yield ready
        finally:
            ready.cancel()
            await asyncio.wait([ready])
            if not ready.cancelled():
                ready.exception()  # it was raised in the block, or something else was

    async def _parts_for_rollback(self) -> tuple[Parts, Problem | None]:
        """What is in force, and what is wrong with the file.

        A typo must not keep the old version from coming back: what was read last is what it uses.
        """
        try:
            return await self._in_force.read(holding=True), await self._ground.not_in_force()
        except Refused as problem:
            what = f"A change of {self._app}'s file is not in force"
            why = f"{problem.what}: {problem.why}" if problem.why else problem.what
            return self._in_force.parts, Refused(problem.code, what, why=why, hint=problem.hint)

    async def _past(self, verified: VerifiedManifest) -> Deployment | None:
        """The deployment of the very same manifest, if it is under way, or succeeded and is still live.

        After a rollback from it the manifest is deployed anew, unless a newer one was accepted meanwhile:
        "done" must mean that it is serving.
        """
        record = await self._journal.of_manifest(self._app, verified.digest)
        if record is None:
            return None
        if (going := self._lock.deployment) and going.id == record.attempt.id:
            return going
        live = await asyncio.to_thread(self._store.live)
        done = record.phase is Phase.DONE and record.attempt.release == live
        return await recorded(record, journal=self._journal, clock=self._clock) if done else None

    async def _tried(self, verified: VerifiedManifest) -> bool:
        return await self._journal.of_manifest(self._app, verified.digest) is not None

    async def _attempt(
        self, kind: Kind, version: str, *, by: str, manifest: str, release: str | None = None
    ) -> Attempt:
        used = {time_id(one) for one in await self._journal.ids(self._app)}
        time = next_release_id(self._clock.now(), used | {*await asyncio.to_thread(self._store.ids)})
        return Attempt(
            id=deployment_id(self._app, time),
            app=self._app,
            kind=kind,
            release=release or time,
            version=version,
            previous=await asyncio.to_thread(self._store.live),
            by=by,
            manifest=manifest,
        )

    def _start(self, deployment: Deployment, parts: Parts, *, bundle: Bundle | None = None) -> Deployment:
        self._in_force.apply()
        self._lock.deployment = deployment
        if self._stopping:
            deployment.interrupted.set()
        self._running = asyncio.create_task(self._run(deployment, parts, bundle), name=deployment.id)
        return deployment

    async def _run(self, deployment: Deployment, parts: Parts, bundle: Bundle | None) -> None:
        try:
            await parts.executor.carry_out(deployment, bundle=bundle)
            if deployment.phase is Phase.DONE:
                self._recovery.went_live()
        finally:
            self._lock.release()
            deployment.mark_consumed()
            give_back()
