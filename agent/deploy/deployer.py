"""One app's deployments: what every door ends in.

Invariant: one deployment at a time; what is refused here has changed nothing; what is begun goes on to its
end, and is settled at the next start if the agent dies before.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import structlog

from agent.core.layout import next_release_id
from agent.core.phases import Phase
from agent.core.plan import Attempt, Kind, Step, deployment_id, time_id
from agent.deploy import rollback, status
from agent.deploy.admission import Admission, VerifiedManifest
from agent.deploy.deployment import Deployment, recorded
from agent.deploy.executor import Execute, Execution
from agent.deploy.lock import Turn, Turns
from agent.deploy.recovery import AppRecovery
from agent.deploy.steps import let_go
from agent.host.ports import Bundle, Clock, Service
from agent.host.releases.store import ReleaseStore
from agent.host.releases.unpack import check_room
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Code, Entry, Failed, Happened, LogLine, Manifest, Problem, Refused

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Send:
    """A bundle to make live. `by` says who sends it, for people.

    `verified` is its manifest, if a door has read it from this bundle and verified it already. It is what counts
    from then on: what is stored with the release is these bytes, and index and files must be the ones it names.
    """

    bundle: Bundle
    by: str
    verified: VerifiedManifest | None = None


@dataclass(frozen=True, slots=True)
class Rollback:
    """An older release to make live again: `to`, or else the fallback. Only while `leaving` is live, if given."""

    by: str
    to: str | None = None
    leaving: str | None = None


class Deployer:
    """The one place where an app's releases change."""

    def __init__(
        self,
        app: str,
        *,
        admission: Admission,
        execute: Execute,
        recovery: AppRecovery,
        store: ReleaseStore,
        disk: Disk,
        service: Service,
        journal: Journal,
        clock: Clock,
        drop: str,
    ) -> None:
        self.app = app
        self._admission = admission
        self._execute = execute
        self._recovery = recovery
        self._store = store
        self._disk = disk
        self._service = service
        self._journal = journal
        self._clock = clock
        self._drop = drop
        self._turns = Turns(app)
        self._stopping = False

    async def submit(self, request: Send | Rollback) -> Deployment:
        """Begin what is asked for and return it as it runs; it goes on whether anybody watches or not.

        A bundle whose manifest was deployed before with success returns that deployment.
        Raises: Refused, with nothing changed; Failed, if the journal cannot be written.
        """
        if self._stopping:
            raise Refused(Code.STOPPING, "The agent is stopping", hint="Try again when it is up")
        if isinstance(request, Rollback):
            return await self._roll_back(request)
        verified = request.verified or await self._admission.receive(request.bundle)
        return await self._past(verified) or await self._send(request, verified)

    async def missing(self, bundle: Bundle) -> list[str]:
        """The digests that a bundle of these papers would have to bring along. Changes nothing.

        Raises: Refused, for verified, and at a time, that a deployment would be refused for.
        """
        verified = await self._admission.receive(bundle)
        if await self._past(verified):
            return []
        self._turns.check_free()
        await self._judge(verified, again=await self._tried(verified))
        await self._service.ready()
        entries = self._admission.entries(verified, bundle)
        return await asyncio.to_thread(self._store.missing, entries)

    async def judged(self, bundle: Bundle, *, again: bool) -> VerifiedManifest:
        """The papers of a bundle, judged as a deployment would; `again`: even if their manifest was tried before.

        Changes nothing. Raises: Refused, Failed.
        """
        verified = await self._admission.receive(bundle)
        await self._judge(verified, again=again)
        return verified

    def entries(self, verified: VerifiedManifest, bundle: Bundle) -> Iterator[Entry]:
        """The entries of a bundle's index, as `Admission.entries`."""
        return self._admission.entries(verified, bundle)

    async def of_manifest(self, manifest: str) -> Deployment | None:
        """The newest deployment of a manifest, named by its SHA-256, running or past."""
        record = await self._journal.of_manifest(self.app, manifest)
        return await self.deployment(record.attempt.id) if record else None

    async def turn_over(self) -> None:
        """Return when no deployment is under way."""
        await self._turns.over()

    async def status(self) -> dict[str, Any]:
        """What is live, what is under way; as `overview.status`."""
        return await status.status(
            self.app,
            host=self._admission.host,
            config=self._admission.config,
            store=self._store,
            journal=self._journal,
            service=self._service,
            deploying=self._turns.deployment,
            trouble=self._recovery.trouble,
            drop=self._drop,
        )

    async def releases(self) -> dict[str, Any]:
        """The releases and the history; as `overview.releases`."""
        return await status.releases(self.app, store=self._store, journal=self._journal)

    def log(self, *, lines: int, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        """The app's own log; as `Service.log`."""
        return self._service.log(lines=lines, follow=follow, unit=unit)

    async def index(self, release: str = "") -> AsyncIterator[bytes]:
        """The signed index of a release, the live one's unless told; as `overview.index`. Raises: Refused."""
        return await status.index(self.app, release, store=self._store, journal=self._journal)

    async def pin(self, release: str, *, pinned: bool, by: str) -> None:
        """Keep a release from retention, or no more. Raises: Refused(unknown_release)."""
        if not await self._journal.pin(self.app, release, pinned=pinned):
            known = status.names(await self._journal.releases(self.app))
            raise Refused(Code.UNKNOWN_RELEASE, f"{self.app} has no release {release}", hint=f"There are: {known}")
        _log.info("release_pinned" if pinned else "release_unpinned", app=self.app, release=release, by=by)

    async def deployment(self, deployment: str) -> Deployment | None:
        """A deployment of this app by its id, running or past."""
        if (going := self._turns.deployment) and going.id == deployment:
            return going
        record = await self._journal.deployment(deployment)
        if record is None or record.attempt.app != self.app:
            return None
        return await recorded(record, journal=self._journal, clock=self._clock)

    async def recover(self) -> None:
        """Settle what an agent that died left behind, then have the live release running.

        Running it twice comes to the same as once. What is wrong with this app keeps no other from being served:
        it is logged, and told by `status` until it is mended.
        """
        await self._recovery.recover(taken=lambda: self._turns.now is not None)

    async def stop(self, *, grace_s: float) -> None:
        """Accept nothing more; what is not live yet is discarded, what is gets `grace_s` seconds to its end.

        What has not ended by then is left to the next start's recovery.
        """
        self._stopping = True
        self._recovery.stop()
        turn = self._turns.now
        if turn is None or turn.task is None:
            return
        task = turn.task
        if turn.execution is not None:
            turn.execution.interrupt()
        _, late = await asyncio.wait([task], timeout=grace_s)
        if late:
            _log.warning(
                "deployment_left", app=self.app, deployment=task.get_name(), todo="settled at the next start"
            )
        task.cancel()
        await asyncio.wait([task])

    async def _send(self, request: Send, verified: VerifiedManifest) -> Deployment:
        manifest = verified.manifest
        turn = self._turns.take(request.by, f"deploying {manifest.version}")
        try:
            await self._recovery.close_ended()
            await self._judge(verified, again=await self._tried(verified))
            await self._service.ready()
            await self._make_room(verified.manifest)
            attempt = await self._attempt(Kind.DEPLOY, manifest.version, by=request.by)
            staged = self._store.layout.staged(attempt.release)
            try:
                await asyncio.to_thread(self._admission.store, verified, request.bundle, staged)
                await self._journal.begin(
                    attempt, manifest=verified.digest, created=manifest.created, now=self._clock.now()
                )
            except Problem:
                await asyncio.to_thread(self._disk.discard, staged, op="store.discard")
                raise
        except BaseException:
            self._turns.end()
            raise
        return self._start(turn, attempt, bundle=request.bundle, verified=verified)

    async def _make_room(self, manifest: Manifest) -> None:
        """If it would not fit, let go now what retention does not keep: releases that fail pile up until one goes
        well, and may be what keeps that one from fitting."""
        live = await asyncio.to_thread(self._store.live)
        path, keep = self._store.layout.path, self._admission.config.keep_releases
        try:
            await asyncio.to_thread(check_room, path, size=manifest.unpacked_size, files=manifest.files)
        except Refused:
            await let_go(self.app, live=live, keep=keep, store=self._store, disk=self._disk, journal=self._journal)
        except Failed:
            return  # there is no folder yet

    async def _roll_back(self, request: Rollback) -> Deployment:
        turn = self._turns.take(request.by, "rolling back")
        try:
            await self._recovery.close_ended()
            if request.leaving is not None:
                await rollback.check_live(self.app, request.leaving, store=self._store)
            target, passed_over = await rollback.target(
                self.app, request.to, store=self._store, journal=self._journal
            )
            await self._service.ready()
            attempt = await self._attempt(Kind.ROLLBACK, target.version, by=request.by, release=target.id)
            await self._journal.begin(attempt, manifest="", created=0, now=self._clock.now())
        except BaseException:
            self._turns.end()
            raise
        return self._start(turn, attempt, warning=passed_over)

    async def _judge(self, verified: VerifiedManifest, *, again: bool) -> None:
        newest = await self._journal.newest_accepted(self.app)
        self._admission.judge(verified, newest_accepted=newest, again=again)

    async def _tried(self, verified: VerifiedManifest) -> bool:
        return await self._journal.of_manifest(self.app, verified.digest) is not None

    async def _past(self, verified: VerifiedManifest) -> Deployment | None:
        """The deployment of the very same manifest, if it is under way, or ended well and is still live.

        One that was rolled back from since is deployed anew, unless something newer was accepted meanwhile:
        "done" must mean that it is serving.
        """
        record = await self._journal.of_manifest(self.app, verified.digest)
        if record is None:
            return None
        if (going := self._turns.deployment) and going.id == record.attempt.id:
            return going
        live = await asyncio.to_thread(self._store.live)
        done = record.phase is Phase.DONE and record.attempt.release == live
        return await recorded(record, journal=self._journal, clock=self._clock) if done else None

    async def _attempt(self, kind: Kind, version: str, *, by: str, release: str | None = None) -> Attempt:
        used = {time_id(one) for one in await self._journal.ids(self.app)}
        time = next_release_id(self._clock.now(), used | {*await asyncio.to_thread(self._store.ids)})
        return Attempt(
            id=deployment_id(self.app, time),
            app=self.app,
            kind=kind,
            release=release or time,
            version=version,
            previous=await asyncio.to_thread(self._store.live),
            by=by,
        )

    def _start(
        self,
        turn: Turn,
        attempt: Attempt,
        *,
        bundle: Bundle | None = None,
        verified: VerifiedManifest | None = None,
        warning: Problem | None = None,
    ) -> Deployment:
        deployment = Deployment(attempt, clock=self._clock, phase=Phase.VERIFIED)
        deployment.warning = warning
        turn.execution = self._execute(deployment, bundle)
        facts = deployment.summary()
        del facts["outcome"]
        deployment.happened(Happened.STARTED, **facts)
        if verified is not None:
            # They came before there was a deployment to tell of; a watcher sees them all the same.
            deployment.happened(Happened.STEP_DONE, step=Step.RECEIVE, ms=verified.receive_ms)
            deployment.happened(
                Happened.STEP_DONE, step=Step.VERIFY, ms=verified.verify_ms, signer=verified.signer
            )
        else:
            deployment.body_read()
        turn.deployment = deployment
        if self._stopping:
            turn.execution.interrupt()
        turn.task = asyncio.create_task(self._run(turn.execution, deployment), name=attempt.id)
        _log.info(
            "deployment_started",
            deployment=attempt.id,
            app=self.app,
            kind=attempt.kind.value,
            release=attempt.release,
            version=attempt.version,
            by=attempt.by,
        )
        return deployment

    async def _run(self, execution: Execution, deployment: Deployment) -> None:
        try:
            await execution.carry_out()
            if deployment.phase is Phase.DONE:
                self._recovery.live_now()
        finally:
            self._turns.end()
            deployment.body_read()
