"""Carrying out a deployment: the plan forwards, and, if an item fails, the one way back.

Invariant: the intent of a step is durable before the step begins, and the end of a deployment before people see
it. `take_back` alone undoes anything, whether a step has just failed or an agent died in the middle of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import structlog

from agent.core.phases import Phase, Signal, advance
from agent.core.plan import (
    BEGINS,
    ENDED,
    RETURN_AFTER,
    RETURN_BEFORE,
    Attempt,
    Hook,
    Item,
    Kind,
    ReleaseCommand,
    Step,
)
from agent.core.releases import Standing
from agent.deploy.admission import VerifiedManifest
from agent.deploy.deployment import Deployment
from agent.deploy.hooks import Hooks
from agent.deploy.steps.step import Doable, Inputs
from agent.host.ports import Bundle, Clock
from agent.host.releases.store import ReleaseStore
from agent.host.storage.journal import Journal
from pusher.wire import Code, Event, Failed, Happened, Head, Problem, Stuck, WireError

_INTERRUPTIBLE = (Step.DEPENDENCIES, Step.PREFLIGHT)
"""Steps that may wait long, and leave nothing running when cancelled. An upload is ended by its door."""

_Result = TypeVar("_Result")
_log = structlog.get_logger()


async def _never() -> bool:
    return False


class Executor:
    """Carries out the deployments of one app, one at a time. `listener` is called with each event of theirs.

    `build` runs the build steps of a deployment's release. `ending` says whether the host is going down.
    """

    def __init__(
        self,
        *,
        steps: Mapping[Step, Doable],
        hooks: Hooks,
        build: Callable[[Deployment], Coroutine[None, None, None]],
        store: ReleaseStore,
        journal: Journal,
        clock: Clock,
        listener: Callable[[Attempt, Event], None] = lambda _, __: None,
        ending: Callable[[], Awaitable[bool]] = _never,
    ) -> None:
        self._steps = steps
        self._hooks = hooks
        self._build = build
        self._store = store
        self._journal = journal
        self._clock = clock
        self._listener = listener
        self._ending = ending

    def begin(
        self, attempt: Attempt, *, verified: VerifiedManifest | None = None, warning: Problem | None = None
    ) -> Deployment:
        """A new deployment. Its first events say what it is, and that its bundle was received and verified."""
        deployment = Deployment(attempt, clock=self._clock)
        deployment.warning = warning
        deployment.subscribe(self._listener)
        facts = deployment.summary()
        del facts["outcome"]
        deployment.happened(Happened.STARTED, **facts)
        if verified is None:
            deployment.mark_consumed()
        else:
            deployment.happened(Happened.STEP_DONE, step=Step.RECEIVE, ms=verified.receive_ms)
            deployment.happened(
                Happened.STEP_DONE, step=Step.VERIFY, ms=verified.verify_ms, signer=verified.signer
            )
        _bound(deployment).info(
            "deployment_started", kind=attempt.kind.value, version=attempt.version, by=attempt.by
        )
        return deployment

    async def carry_out(self, deployment: Deployment, *, bundle: Bundle | None = None, start: int = 0) -> None:
        """Do the items of the plan from `start` on. What fails before the commit is taken back.

        What fails after it (the clean-up, its hooks) is reported, and does not change the outcome. What fails
        after the switch because the host is going down is left as it is, for the recovery at its next start.
        """
        deployment.subscribe(self._listener)
        inputs = Inputs(bundle=bundle)
        for item in deployment.attempt.items[start:]:
            try:
                inputs = await self._do_item(item, deployment, inputs)
            except Exception as error:
                problem = await _problem(error, deployment)
                if deployment.phase is not Phase.COMMITTED:
                    if await self._left(deployment, problem):
                        return
                    await self.take_back(deployment, problem, failed=_name(item))
                    return
                _bound(deployment).warning("cleanup_incomplete", problem=str(problem))
                deployment.warning = deployment.warning or problem
        await self._finish(deployment, Signal.CLEANED_UP, None)

    async def take_back(self, deployment: Deployment, problem: Problem, *, failed: str = "") -> None:
        """Undo what was done, in reverse. The deployment ends as failed, or as stuck if an undo fails too.

        Before the switch only the new release has to go. From the switch on, what was live comes back, and
        the release that failed stays for inspection. `failed` names the step or hook, for the log.
        """
        deployment.subscribe(self._listener)
        _bound(deployment).warning("deployment_failed", step=failed, problem=str(problem))
        if deployment.phase not in (Phase.DISCARDING, Phase.RETURNING):
            deployment.phase = advance(deployment.phase, Signal.STEP_FAILED)
        # On a full disk even the journal may be unable to grow: the undo below makes the room.
        with suppress(Failed):
            await self._save(deployment)
        returning = deployment.phase is Phase.RETURNING
        for step in _undoable(deployment.attempt, returning=returning):
            if step is Step.SWITCH:
                await self._run_return_hooks(RETURN_BEFORE, deployment)
            if (second := await self._undo(step, deployment)) is not None:
                if await self._left(deployment, second):
                    return
                await self._finish(deployment, Signal.NOT_UNDONE, _stuck(problem, second))
                return
            if step is Step.SWITCH:
                await self._run_return_hooks(RETURN_AFTER, deployment)
        await self._finish(deployment, Signal.UNDONE, problem)

    async def _do_item(self, item: Item, deployment: Deployment, inputs: Inputs) -> Inputs:
        """Do one item; what the next one can build on."""
        if deployment.interrupted.is_set() and deployment.phase is Phase.VERIFIED:
            raise _interrupted(deployment)
        if isinstance(item, Step):
            return await self._do(item, deployment, inputs)
        if isinstance(item, Hook | ReleaseCommand):
            await self._save(deployment)
            await self._unless_interrupted(self._run(item, deployment), deployment)
        else:
            await self._commit(deployment)
        return inputs

    async def _run(self, item: Hook | ReleaseCommand, deployment: Deployment) -> None:
        if isinstance(item, Hook):
            await self._hooks.run(item.name, deployment)
        elif item is ReleaseCommand.BUILD:
            await self._build(deployment)
        else:
            await self._hooks.release(deployment)

    async def _do(self, step: Step, deployment: Deployment, inputs: Inputs) -> Inputs:
        if step in BEGINS:
            deployment.phase = advance(deployment.phase, BEGINS[step])
        deployment.happened(Happened.STEP_STARTED, step=step)
        await self._save(deployment)
        began = self._clock.elapsed()
        try:
            doing = self._steps[step].do(deployment.attempt, inputs, deployment.output(step))
            if step in _INTERRUPTIBLE:
                doing = self._unless_interrupted(doing, deployment)
            found = await doing
        except Problem as problem:
            document = problem.to_document()
            deployment.happened(Happened.STEP_FAILED, step=step, ms=self._ms(began), problem=document)
            raise
        if step is Step.UNPACK:
            deployment.mark_consumed()
        deployment.happened(Happened.STEP_DONE, step=step, ms=self._ms(began))
        _bound(deployment).info("step_done", step=step.value, ms=self._ms(began))
        if step in ENDED:
            deployment.phase = advance(deployment.phase, ENDED[step])
        return found or inputs

    async def _unless_interrupted(self, doing: Coroutine[Any, Any, _Result], deployment: Deployment) -> _Result:
        """Do it; before the switch, an interruption cancels it. Raises: Failed(interrupted)."""
        if deployment.phase is not Phase.VERIFIED:
            return await doing
        work = asyncio.create_task(doing)
        interruption = asyncio.create_task(deployment.interrupted.wait())
        try:
            await asyncio.wait({work, interruption}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise _interrupted(deployment)
        finally:
            work.cancel()
            interruption.cancel()
            await asyncio.gather(work, interruption, return_exceptions=True)

    async def _commit(self, deployment: Deployment) -> None:
        """From here on the release is good, and later ones can roll back to it."""
        attempt, events = deployment.attempt, deployment.unsaved()
        standings = {attempt.release: Standing.GOOD}
        if attempt.kind is Kind.ROLLBACK and attempt.previous and attempt.release < attempt.previous:
            standings[attempt.previous] = Standing.WITHDRAWN
        phase = advance(deployment.phase, Signal.CONFIRMED)
        head = await self._journal.stand(attempt, standings, phase=phase, events=events)
        deployment.phase = phase
        deployment.mark_saved(events)
        _bound(deployment).info("deployment_committed", history=head.hash, records=head.records)

    async def _undo(self, step: Step, deployment: Deployment) -> Problem | None:
        """Undo one step; what went wrong, if anything did."""
        deployment.happened(Happened.UNDO_STARTED, step=step)
        began = self._clock.elapsed()
        try:
            await self._steps[step].undo(deployment.attempt, deployment.output(step))
        except Exception as error:
            problem = await _problem(error, deployment)
            document = problem.to_document()
            deployment.happened(Happened.UNDO_FAILED, step=step, ms=self._ms(began), problem=document)
            return problem
        deployment.happened(Happened.UNDO_DONE, step=step, ms=self._ms(began))
        return None

    async def _left(self, deployment: Deployment, problem: Problem) -> bool:
        """Whether the host is going down, which explains the problem. Then nothing more is tried: older releases
        would fail as well, and the deployment would end as stuck."""
        if deployment.phase in (Phase.VERIFIED, Phase.DISCARDING) or not await self._ending():
            return False
        todo = "recover at the next start"
        _bound(deployment).warning(
            "deployment_left", why="the host is going down", problem=str(problem), todo=todo
        )
        return True

    async def _run_return_hooks(self, hooks: Sequence[Hook], deployment: Deployment) -> None:
        """Run the hooks of a return. A hook that fails, or a bug of ours, must not stop the return."""
        for hook in hooks:
            try:
                await self._hooks.run(hook.name, deployment, returning=True)
            except Exception as error:
                problem = await _problem(error, deployment)
                _bound(deployment).warning("return_hook_failed", hook=hook.name, problem=str(problem))

    async def _finish(self, deployment: Deployment, signal: Signal, problem: Problem | None) -> None:
        attempt = deployment.attempt
        phase = advance(deployment.phase, signal)
        before = await self._head(attempt.app)
        event = deployment.next_event(
            Happened.FINISHED,
            outcome=phase.value,
            deployment=attempt.id,
            app=attempt.app,
            kind=attempt.kind,
            version=attempt.version,
            release=attempt.release,
            previous=attempt.previous,
            manifest=attempt.manifest or None,
            live=await asyncio.to_thread(self._live),
            ms=self._ms(deployment.began),
            **({"history": before.members()} if before else {}),
            **({"problem": problem.to_document()} if problem else {}),
            **({"warning": deployment.warning.to_document()} if deployment.warning else {}),
        )
        events = [*deployment.unsaved(), event]
        deploy = attempt.kind is Kind.DEPLOY
        head: Head | None = None
        try:
            head = await self._journal.finish(
                attempt,
                phase,
                now=self._clock.now(),
                problem=problem,
                events=events,
                standing=Standing.FAILED if deploy and deployment.phase is Phase.RETURNING else None,
                forget=deploy and deployment.phase is Phase.DISCARDING and phase is Phase.FAILED,
            )
            deployment.mark_saved(events)
        except Failed as unwritable:
            # Watchers must see the end all the same. It is written before the next deployment begins, or when the
            # agent starts again.
            _bound(deployment).error("journal_unwritable", problem=str(unwritable))
        deployment.phase = phase
        deployment.publish(event)
        log = _bound(deployment).info if problem is None else _bound(deployment).error
        # The system's journal keeps the head where the agent cannot change it: `pusher-agent check` compares them.
        history = {"history": head.hash, "records": head.records} if head else {}
        log("deployment_finished", outcome=phase.value, version=attempt.version, ms=event.data["ms"], **history)

    async def _head(self, app: str) -> Head | None:
        """The head of the history that the end of the deployment is added to; None if it cannot be read."""
        try:
            return await self._journal.head(app)
        except Failed:
            return None

    async def _save(self, deployment: Deployment) -> None:
        if deployment.saved:  # most hooks are not there: between them there is nothing to flush
            return
        events = deployment.unsaved()
        await self._journal.note(deployment.id, events=events, phase=deployment.phase)
        deployment.mark_saved(events)

    def _live(self) -> dict[str, str | None] | None:
        """What serves now, as the disk has it."""
        live = self._store.live()
        try:
            if not live:
                return None
            manifest = self._store.manifest(live) or None
            return {"release": live, "version": self._store.placed(live).version, "manifest": manifest}
        except (OSError, WireError):
            return None

    def _ms(self, began: float) -> int:
        return round((self._clock.elapsed() - began) * 1000)


def _bound(deployment: Deployment) -> structlog.stdlib.BoundLogger:
    attempt = deployment.attempt
    bound: structlog.stdlib.BoundLogger = _log.bind(
        deployment=attempt.id, app=attempt.app, release=attempt.release
    )
    return bound


def _undoable(attempt: Attempt, *, returning: bool) -> list[Step]:
    """The steps to undo, in that order: those from the switch on, or those before it."""
    steps = [item for item in attempt.items if isinstance(item, Step) and item is not Step.CLEANUP]
    at = steps.index(Step.SWITCH)
    return [*reversed(steps[at:])] if returning else [*reversed(steps[:at])]


def _name(item: Item) -> str:
    return item.name if isinstance(item, Hook) else item.value


async def _problem(error: Exception, deployment: Deployment) -> Problem:
    """The error as a problem. Whatever is wrong with us, the app must come back: so a bug of ours becomes one too,
    and is logged here."""
    if isinstance(error, Problem):
        return error
    # In a thread: the traceback is made from source files.
    await asyncio.to_thread(_bound(deployment).error, "internal_error", exc_info=error)
    return Failed(
        Code.INTERNAL,
        "The agent met a bug of its own",
        why=f"{type(error).__name__}: {error}",
        hint="The traceback is in the agent's log; please report it",
    )


def _interrupted(deployment: Deployment) -> Failed:
    if deployment.cancelled_by:
        return Failed(
            Code.INTERRUPTED,
            f"{deployment.cancelled_by} cancelled the deployment",
            why="nothing live had been changed, and nothing was",
        )
    return Failed(
        Code.INTERRUPTED,
        "The agent was stopped in the middle of the deployment",
        why="nothing live had been changed, and nothing was",
        hint="Send it again when the agent is up",
    )


def _stuck(problem: Problem, second: Problem) -> Stuck:
    return Stuck(
        Code.NOT_UNDONE,
        f"{problem.what}, and taking it back failed as well: {second.what}",
        why=second.why or problem.why,
        hint=second.hint,
        output=second.output or problem.output,
    )
