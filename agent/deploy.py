"""One app's deployments: what every door ends in.

Invariant: one deployment at a time; what is refused here has changed nothing; what is begun goes on to its
end, and is settled at the next start if the agent dies before.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from agent import overview
from agent.admission import Admission, Papers
from agent.core.layout import next_release_id
from agent.core.phases import Phase, Recovery, Signal, advance, recovery
from agent.core.plan import Attempt, Kind, Step, deployment_id, finish_at, resume_at, time_id
from agent.core.releases import Release, Standing, fallbacks
from agent.execution import Execution
from agent.headline import Headline
from agent.hook_calls import HookCalls
from agent.host.disk import Disk
from agent.host.journal import Journal, Record
from agent.host.ports import Bundle, Clock, Service
from agent.host.shelf import Shelf
from agent.progress import Deployment
from agent.steps import Doable
from agent.tidy import tidy
from pusher.wire import Code, Entry, Failed, Happened, LogLine, Problem, Refused, WireError

_log = structlog.get_logger()

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0

Steps = Callable[[Bundle | None, Callable[[], None]], Mapping[Step, Doable]]
"""Makes the steps of one deployment: from its bundle, and what to call when that has been read."""


@dataclass(frozen=True, slots=True)
class Send:
    """A bundle to make live. `by` says who sends it, for people."""

    bundle: Bundle
    by: str


@dataclass(frozen=True, slots=True)
class Rollback:
    """An older release to make live again: `to`, or else the fallback. Only while `leaving` is live, if given."""

    by: str
    to: str | None = None
    leaving: str | None = None


@dataclass(slots=True)
class _Turn:
    """Whose turn it is."""

    by: str
    doing: str
    deployment: Deployment | None = None
    execution: Execution | None = None
    task: asyncio.Task[None] | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Deployer:
    """The one place where an app's releases change."""

    def __init__(
        self,
        app: str,
        *,
        admission: Admission,
        steps: Steps,
        hooks: HookCalls,
        shelf: Shelf,
        disk: Disk,
        service: Service,
        journal: Journal,
        clock: Clock,
        headline: Headline,
        drop: str = "",
    ) -> None:
        self.app = app
        self._drop = drop
        self._admission = admission
        self._steps = steps
        self._hooks = hooks
        self._shelf = shelf
        self._disk = disk
        self._service = service
        self._journal = journal
        self._clock = clock
        self._headline = headline
        self._turn: _Turn | None = None
        self._stopping = False
        self._trouble = ""
        self._revival: asyncio.Task[None] | None = None

    async def submit(self, request: Send | Rollback) -> Deployment:
        """Begin what is asked for and return it as it runs; it goes on whether anybody watches or not.

        A bundle whose manifest was deployed before with success returns that deployment.
        Raises: Refused, with nothing changed; Failed, if the journal cannot be written.
        """
        if self._stopping:
            raise Refused(Code.STOPPING, "The agent is stopping", hint="Try again when it is up")
        if isinstance(request, Rollback):
            return await self._roll_back(request)
        papers = await self._admission.receive(request.bundle)
        return await self._past(papers) or await self._send(request, papers)

    async def missing(self, bundle: Bundle) -> list[str]:
        """The digests that a bundle of these papers would have to bring along. Changes nothing.

        Raises: Refused, for papers, and at a time, that a deployment would be refused for.
        """
        papers = await self._admission.receive(bundle)
        if await self._past(papers):
            return []
        self._check_free()
        await self._judge(papers)
        await self._service.ready()
        entries = self._admission.entries(papers, bundle)
        return await asyncio.to_thread(self._shelf.missing, entries)

    async def judged(self, bundle: Bundle, *, again: bool) -> Papers:
        """The papers of a bundle, judged as a deployment would; `again`: even if their manifest was tried before.

        Changes nothing. Raises: Refused, Failed.
        """
        papers = await self._admission.receive(bundle)
        newest = await self._journal.newest_accepted(self.app)
        self._admission.judge(papers, newest_accepted=newest, again=again)
        return papers

    def entries(self, papers: Papers, bundle: Bundle) -> Iterator[Entry]:
        """The entries of a bundle's index, as `Admission.entries`."""
        return self._admission.entries(papers, bundle)

    async def of_manifest(self, manifest: str) -> Deployment | None:
        """The newest deployment of a manifest, named by its SHA-256, running or past."""
        record = await self._journal.of_manifest(self.app, manifest)
        return await self.deployment(record.attempt.id) if record else None

    async def turn_over(self) -> None:
        """Return when no deployment is under way."""
        while self._turn is not None:
            await self._turn.over.wait()

    async def status(self) -> dict[str, Any]:
        """What is live, what is under way; as `overview.status`."""
        return await overview.status(
            self.app,
            host=self._admission.host,
            config=self._admission.config,
            shelf=self._shelf,
            journal=self._journal,
            service=self._service,
            deploying=self._turn.deployment if self._turn else None,
            trouble=self._trouble,
            drop=self._drop,
        )

    async def releases(self) -> dict[str, Any]:
        """The releases and the history; as `overview.releases`."""
        return await overview.releases(self.app, shelf=self._shelf, journal=self._journal)

    def log(self, *, lines: int, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        """The app's own log; as `Service.log`."""
        return self._service.log(lines=lines, follow=follow, unit=unit)

    async def index(self, release: str = "") -> AsyncIterator[bytes]:
        """The signed index of a release, the live one's unless told; as `overview.index`. Raises: Refused."""
        return await overview.index(self.app, release, shelf=self._shelf, journal=self._journal)

    async def pin(self, release: str, *, pinned: bool, by: str) -> None:
        """Keep a release from retention, or no more. Raises: Refused(unknown_release)."""
        if not await self._journal.pin(self.app, release, pinned=pinned):
            known = overview.names(await self._journal.releases(self.app))
            raise Refused(Code.UNKNOWN_RELEASE, f"{self.app} has no release {release}", hint=f"There are: {known}")
        _log.info("release_pinned" if pinned else "release_unpinned", app=self.app, release=release, by=by)

    async def deployment(self, deployment: str) -> Deployment | None:
        """A deployment of this app by its id, running or past."""
        if self._turn and self._turn.deployment and self._turn.deployment.id == deployment:
            return self._turn.deployment
        record = await self._journal.deployment(deployment)
        return await self._recorded(record) if record and record.attempt.app == self.app else None

    async def recover(self) -> None:
        """Settle what an agent that died left behind, then have the live release running.

        Running it twice comes to the same as once. What is wrong with this app keeps no other from being served:
        it is logged, and told by `status` until it is mended.
        """
        try:
            unfinished = await self._journal.unfinished(self.app)
            for record in unfinished[:-1]:
                await self._close(record)
            for record in unfinished[-1:]:
                await self._settle(record)
            await tidy(self.app, shelf=self._shelf, disk=self._disk, journal=self._journal)
        except (Problem, OSError, WireError) as error:
            self._trouble = str(error)
            _log.error("app_not_settled", app=self.app, problem=self._trouble)
        self._headline.live(await asyncio.to_thread(self._shelf.version))
        if not await self._have_running():
            self._revival = asyncio.create_task(self._revive(), name=f"revive {self.app}")

    async def stop(self, *, grace_s: float) -> None:
        """Accept nothing more; what is not live yet is discarded, what is gets `grace_s` seconds to its end.

        What has not ended by then is left to the next start's recovery.
        """
        self._stopping = True
        if self._revival is not None:
            self._revival.cancel()
        if self._turn is None or self._turn.task is None:
            return
        task = self._turn.task
        if self._turn.execution is not None:
            self._turn.execution.interrupt()
        _, late = await asyncio.wait([task], timeout=grace_s)
        if late:
            _log.warning(
                "deployment_left", app=self.app, deployment=task.get_name(), todo="settled at the next start"
            )
        task.cancel()
        await asyncio.wait([task])

    async def _have_running(self) -> bool:
        """Whether the live release runs, or was started now, or there is none."""
        live = await asyncio.to_thread(self._shelf.live)
        if live is None or self._service.running() is not None:
            return True
        try:
            await self._service.reserve()
            await self._service.restart(await asyncio.to_thread(self._shelf.placed, live))
        except (Problem, OSError, WireError) as error:
            self._trouble = str(error)
            _log.error("app_not_started", app=self.app, release=live, problem=self._trouble)
            return False
        self._trouble = ""
        return True

    async def _revive(self) -> None:
        """Try again, after pauses that grow, until the live release runs or a deployment takes over."""
        pause = _FIRST_PAUSE_S
        while True:
            await self._clock.sleep(pause)
            if self._turn is not None or await self._have_running():
                return
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _send(self, request: Send, papers: Papers) -> Deployment:
        manifest = papers.manifest
        turn = self._take_turn(request.by, f"deploying {manifest.version}")
        try:
            await self._close_ended()
            await self._judge(papers)
            await self._service.ready()
            attempt = await self._attempt(Kind.DEPLOY, manifest.version, by=request.by)
            staged = self._shelf.layout.staged(attempt.release)
            try:
                await asyncio.to_thread(self._admission.store, papers, request.bundle, staged)
                await self._journal.begin(
                    attempt, manifest=papers.digest, created=manifest.created, now=self._clock.now()
                )
            except Problem:
                await asyncio.to_thread(self._disk.discard, staged, op="store.discard")
                raise
        except BaseException:
            self._end_turn()
            raise
        return self._start(turn, attempt, bundle=request.bundle, papers=papers)

    async def _roll_back(self, request: Rollback) -> Deployment:
        turn = self._take_turn(request.by, "rolling back")
        try:
            await self._close_ended()
            if request.leaving is not None:
                await self._check_live(request.leaving)
            target = await self._target(request.to)
            await self._service.ready()
            attempt = await self._attempt(Kind.ROLLBACK, target.version, by=request.by, release=target.id)
            await self._journal.begin(attempt, manifest="", created=0, now=self._clock.now())
        except BaseException:
            self._end_turn()
            raise
        return self._start(turn, attempt)

    def _take_turn(self, by: str, doing: str) -> _Turn:
        self._check_free()
        self._turn = _Turn(by, doing)
        return self._turn

    def _check_free(self) -> None:
        if self._turn is not None:
            other = self._turn.deployment
            raise Refused(
                Code.BUSY,
                f"{self._turn.by} is {self._turn.doing} on {self.app}",
                why="one deployment runs at a time",
                hint=f"`pusher status --deployment {other.id} --follow` shows it" if other else "Try again soon",
            )

    async def _check_live(self, release: str) -> None:
        live = await asyncio.to_thread(self._shelf.live)
        if live != release:
            raise Refused(
                Code.NOT_LIVE,
                f"{self.app} is not at release {release} any more",
                why=f"release {live} is live" if live else "nothing is live",
                hint="Nothing was changed. To roll back all the same, leave out `from`",
            )

    async def _judge(self, papers: Papers) -> None:
        record = await self._journal.of_manifest(self.app, papers.digest)
        self._admission.judge(
            papers,
            newest_accepted=await self._journal.newest_accepted(self.app),
            again=record is not None,
        )

    async def _past(self, papers: Papers) -> Deployment | None:
        """The deployment of the very same manifest, if it is under way, or ended well and is still live.

        One that was rolled back from since is deployed anew, unless something newer was accepted meanwhile:
        "done" must mean that it is serving.
        """
        record = await self._journal.of_manifest(self.app, papers.digest)
        if record is None:
            return None
        if self._turn and self._turn.deployment and self._turn.deployment.id == record.attempt.id:
            return self._turn.deployment
        live = await asyncio.to_thread(self._shelf.live)
        done = record.phase is Phase.DONE and record.attempt.release == live
        return await self._recorded(record) if done else None

    async def _close_ended(self) -> None:
        """Write down the end of deployments that ended while the journal could not be written.

        Before anything else begins: a later start would take them for interrupted, and settle them over what
        went live since. Raises: Failed, while the journal still cannot be written.
        """
        for record in await self._journal.unfinished(self.app):
            await self._close(record)

    async def _close(self, record: Record) -> None:
        done = record.phase is Phase.COMMITTED
        problem = Failed(Code.INTERRUPTED, "How the deployment ended could not be written down")
        await self._journal.finish(
            record.attempt,
            Phase.DONE if done else Phase.FAILED,
            now=self._clock.now(),
            problem=None if done else problem,
            standing=None if done or record.attempt.kind is Kind.ROLLBACK else Standing.FAILED,
        )

    async def _recorded(self, record: Record) -> Deployment:
        events = await self._journal.events(record.attempt.id)
        deployment = Deployment(record.attempt, clock=self._clock, phase=record.phase, past=events)
        if record.finished is not None and deployment.outcome is None:
            # The history keeps no events for ever; how it ended stays.
            problem = {"problem": record.problem} if record.problem else {}
            facts = {**deployment.summary(), "outcome": record.phase.value}
            deployment.happened(Happened.FINISHED, **facts, ms=record.finished - record.started, **problem)
        deployment.body_read()
        return deployment

    async def _attempt(self, kind: Kind, version: str, *, by: str, release: str | None = None) -> Attempt:
        used = {time_id(one) for one in await self._journal.ids(self.app)}
        time = next_release_id(self._clock.now(), used | {*await asyncio.to_thread(self._shelf.ids)})
        return Attempt(
            id=deployment_id(self.app, time),
            app=self.app,
            kind=kind,
            release=release or time,
            version=version,
            previous=await asyncio.to_thread(self._shelf.live),
            by=by,
        )

    async def _target(self, to: str | None) -> Release:
        """The release to roll back to: the one named, or the newest intact fallback. Raises: Refused."""
        releases = await self._journal.releases(self.app)
        live = await asyncio.to_thread(self._shelf.live)
        others = [one for one in releases if one.id != live]
        what = f"{self.app} cannot go back to {to}" if to else f"{self.app} has nothing to roll back to"
        hint = f"There are: {overview.names(others)}; name one with --to, or send a good version"
        candidates = fallbacks(releases, live=live) if to is None else [one for one in others if one.id == to]
        if not candidates and to is not None:
            why = "it is the live release" if to == live else "there is no such release here"
            raise Refused(Code.UNKNOWN_RELEASE, what, why=why, hint=hint)
        why = "no older release was confirmed good, or each was rolled back from"
        for one in candidates:
            difference = await asyncio.to_thread(self._shelf.intact, one.id)
            if not difference:
                return one
            _log.warning("release_damaged", app=self.app, release=one.id, difference=difference)
            why = f"release {one.id} is damaged: {difference}"
        code = Code.RELEASE_DAMAGED if candidates else Code.NOTHING_TO_ROLL_BACK_TO
        raise Refused(code, what, why=why, hint=hint)

    def _start(
        self, turn: _Turn, attempt: Attempt, *, bundle: Bundle | None = None, papers: Papers | None = None
    ) -> Deployment:
        deployment = Deployment(attempt, clock=self._clock, phase=Phase.VERIFIED)
        turn.execution = self._execution(deployment, bundle)
        facts = deployment.summary()
        del facts["outcome"]
        deployment.happened(Happened.STARTED, **facts)
        if papers is not None:
            # They came before there was a deployment to tell of; a watcher sees them all the same.
            deployment.happened(Happened.STEP_DONE, step=Step.RECEIVE, ms=papers.receive_ms)
            deployment.happened(Happened.STEP_DONE, step=Step.VERIFY, ms=papers.verify_ms, signer=papers.signer)
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
            self._trouble = ""
        finally:
            self._end_turn()
            deployment.body_read()

    def _end_turn(self) -> None:
        if self._turn is not None:
            self._turn.over.set()
        self._turn = None

    async def _settle(self, record: Record) -> None:
        """End a deployment that an agent left in the middle, by the same loop that would have ended it."""
        attempt, phase = record.attempt, record.phase
        live = await asyncio.to_thread(self._shelf.live)
        if live not in (attempt.release, attempt.previous):
            # Something else went live since, by other hands: what was left behind here is none of its business.
            await self._close(record)
            return
        link_says_new = live == attempt.release
        todo = recovery(phase, link_says_new=link_says_new, resumptions=record.resumptions)
        _log.warning(
            "deployment_unfinished", deployment=attempt.id, app=self.app, phase=phase.value, todo=todo.value
        )
        deployment = await self._recorded(record)
        execution = self._execution(deployment, None)
        if todo is Recovery.FINISH:
            await execution.carry_out(start=finish_at(attempt.items))
        elif todo is Recovery.RESUME:
            deployment.phase = advance(phase, Signal.RESUMED)
            await self._journal.note(attempt.id, phase=deployment.phase, resumptions=record.resumptions + 1)
            await execution.carry_out(start=resume_at(attempt.items))
        else:
            await execution.take_back(
                Failed(
                    Code.INTERRUPTED,
                    "The agent ended in the middle of the deployment",
                    why=f"it was found {phase.value} when the agent started again",
                    hint="Send it again",
                )
            )

    def _execution(self, deployment: Deployment, bundle: Bundle | None) -> Execution:
        deployment.tell(self._headline.happened)
        return Execution(
            deployment,
            steps=self._steps(bundle, deployment.body_read),
            hooks=self._hooks,
            shelf=self._shelf,
            journal=self._journal,
            clock=self._clock,
        )
