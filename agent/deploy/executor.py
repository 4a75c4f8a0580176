"""Carrying out one deployment: the plan forwards, and, if something fails, its one way back.

Invariant: the intent of a step is durable before the step begins, a deployment's end before anybody hears of
it. `take_back` is the only place where anything is undone, whether a step failed a moment ago or the
agent died in the middle and found the deployment in its journal.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

from agent.core.phases import Phase, Signal, advance
from agent.core.plan import BEGINS, ENDED, RETURN_AFTER, RETURN_BEFORE, Commit, Hook, Item, Kind, Step
from agent.core.releases import Standing
from agent.deploy.deployment import Deployment
from agent.deploy.hooks import HookCalls
from agent.deploy.steps import Doable
from agent.host.ports import Bundle, Clock
from agent.host.releases.store import ReleaseStore
from agent.host.storage.journal import Journal
from pusher.wire import Code, Failed, Happened, Problem, Stuck, WireError

_INTERRUPTIBLE = (Step.DEPENDENCIES, Step.PREFLIGHT)
"""Steps that wait for others, and leave nothing running when cancelled. An upload is ended by its door."""

_log = structlog.get_logger()


class Execution:
    """One deployment in the hands of the agent."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        steps: Mapping[Step, Doable],
        hooks: HookCalls,
        store: ReleaseStore,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._deployment = deployment
        self._attempt = deployment.attempt
        self._steps = steps
        self._hooks = hooks
        self._store = store
        self._journal = journal
        self._clock = clock
        self._began = clock.elapsed()
        self._interrupted = False
        self._waiting: asyncio.Future[None] | None = None
        self._at = ""
        self._log = _log.bind(deployment=deployment.id, app=self._attempt.app, release=self._attempt.release)

    async def carry_out(self, *, start: int = 0) -> None:
        """Do the items of the plan from `start` on; what fails before the commit is taken back.

        What fails after it (the clean-up, its hooks) is reported, and changes nothing about the outcome.
        """
        for item in self._attempt.items[start:]:
            problem = await self._try(item)
            if problem is None:
                continue
            if self._deployment.phase is not Phase.COMMITTED:
                await self.take_back(problem)
                return
            self._log.warning("cleanup_incomplete", problem=str(problem))
            self._deployment.warning = self._deployment.warning or problem
        await self._finish(Signal.CLEANED_UP, None)

    async def take_back(self, problem: Problem) -> None:
        """Undo what was done, in reverse, and end the deployment as failed; as stuck if that fails too.

        Before the switch only the new release has to go. From the switch on, what was live comes back, and
        the release that failed stays for inspection.
        """
        self._log.warning("deployment_failed", step=self._at, problem=str(problem))
        if self._deployment.phase not in (Phase.DISCARDING, Phase.RETURNING):
            self._deployment.phase = advance(self._deployment.phase, Signal.STEP_FAILED)
        # A full disk may keep even the journal from growing: the undo below makes the room.
        with suppress(Failed):
            await self._save()
        returning = self._deployment.phase is Phase.RETURNING
        for step in self._undoable(returning):
            hooks = returning and step is Step.SWITCH
            await self._run_return_hooks(RETURN_BEFORE if hooks else ())
            second = await self._undo(step)
            if second is not None:
                await self._finish(Signal.NOT_UNDONE, _stuck(problem, second))
                return
            await self._run_return_hooks(RETURN_AFTER if hooks else ())
        await self._finish(Signal.UNDONE, problem)

    def interrupt(self) -> None:
        """Go no further with what is not live yet: what it waits for ends now, and what was built is discarded."""
        self._interrupted = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def _try(self, item: Item) -> Problem | None:
        if self._interrupted and self._deployment.phase is Phase.VERIFIED:
            return _stopped()
        self._at = item.name if isinstance(item, Hook) else item.value
        try:
            if isinstance(item, Hook):
                await self._save()
                await self._while_wanted(self._hooks.call(item.name, self._deployment))
            elif isinstance(item, Commit):
                await self._commit()
            else:
                await self._do(item)
        except Problem as problem:
            return problem
        except Exception as error:
            # The one place that catches everything: whatever is wrong with us, the app must come back.
            await self._note_bug(error)
            return _our_bug(error)
        return None

    async def _do(self, step: Step) -> None:
        deployment = self._deployment
        if step in BEGINS:
            deployment.phase = advance(deployment.phase, BEGINS[step])
        deployment.happened(Happened.STEP_STARTED, step=step)
        await self._save()
        began = self._clock.elapsed()
        try:
            doing = self._steps[step].do(self._attempt, deployment.output(step))
            await (self._while_wanted(doing) if step in _INTERRUPTIBLE else doing)
        except Problem as problem:
            document = problem.to_document()
            deployment.happened(Happened.STEP_FAILED, step=step, ms=self._ms(began), problem=document)
            raise
        deployment.happened(Happened.STEP_DONE, step=step, ms=self._ms(began))
        self._log.info("step_done", step=step.value, ms=self._ms(began))
        if step in ENDED:
            deployment.phase = advance(deployment.phase, ENDED[step])

    async def _while_wanted(self, doing: Coroutine[Any, Any, None]) -> None:
        """Do it; while nothing is live yet, `interrupt` ends it. Raises: Failed(interrupted), what it raises."""
        if self._deployment.phase is not Phase.VERIFIED:
            await doing
            return
        if self._interrupted:
            doing.close()
            raise _stopped()
        self._waiting = asyncio.ensure_future(doing)
        try:
            await self._waiting
        except asyncio.CancelledError:
            here = asyncio.current_task()
            if here is not None and here.cancelling():
                raise  # not by `interrupt`: it is we who are cancelled
            raise _stopped() from None
        finally:
            self._waiting = None

    async def _commit(self) -> None:
        """From here on the release is the one that answers: known good, and a fallback of later ones."""
        attempt, deployment = self._attempt, self._deployment
        standings = {attempt.release: Standing.GOOD}
        if attempt.kind is Kind.ROLLBACK and attempt.previous and attempt.release < attempt.previous:
            standings[attempt.previous] = Standing.WITHDRAWN
        phase, events = advance(deployment.phase, Signal.CONFIRMED), deployment.unsaved()
        await self._journal.stand(attempt, standings, phase=phase, events=events)
        deployment.saved(events)
        deployment.phase = phase
        self._log.info("deployment_committed", release=attempt.release)

    async def _undo(self, step: Step) -> Problem | None:
        deployment = self._deployment
        deployment.happened(Happened.UNDO_STARTED, step=step)
        began = self._clock.elapsed()
        try:
            await self._steps[step].undo(self._attempt, deployment.output(step))
        except Problem as problem:
            document = problem.to_document()
            deployment.happened(Happened.UNDO_FAILED, step=step, ms=self._ms(began), problem=document)
            return problem
        except Exception as error:
            await self._note_bug(error)
            return _our_bug(error)
        deployment.happened(Happened.UNDO_DONE, step=step, ms=self._ms(began))
        return None

    async def _note_bug(self, error: Exception) -> None:
        # Beside the loop: a traceback is made from the source files.
        await asyncio.to_thread(self._log.error, "internal_error", exc_info=error)

    def _undoable(self, returning: bool) -> list[Step]:
        steps = [item for item in self._attempt.items if isinstance(item, Step) and item is not Step.CLEANUP]
        at = steps.index(Step.SWITCH)
        return [*reversed(steps[at:])] if returning else [*reversed(steps[:at])]

    async def _run_return_hooks(self, hooks: Sequence[Hook]) -> None:
        """What a hook says on the way back cannot stop it: its failure, or a bug of ours, is passed over."""
        for hook in hooks:
            try:
                await self._hooks.call(hook.name, self._deployment, returning=True)
            except Problem as problem:
                self._log.warning("return_hook_failed", hook=hook.name, problem=str(problem))
            except Exception as error:
                await self._note_bug(error)

    async def _finish(self, signal: Signal, problem: Problem | None) -> None:
        deployment, attempt = self._deployment, self._attempt
        phase = advance(deployment.phase, signal)
        event = deployment.next_event(
            Happened.FINISHED,
            outcome=phase.value,
            deployment=attempt.id,
            app=attempt.app,
            kind=attempt.kind,
            version=attempt.version,
            release=attempt.release,
            previous=attempt.previous,
            live=await asyncio.to_thread(self._live),
            ms=self._ms(self._began),
            **({"problem": problem.to_document()} if problem else {}),
            **({"warning": deployment.warning.to_document()} if deployment.warning else {}),
        )
        events = [*deployment.unsaved(), event]
        deploy = attempt.kind is Kind.DEPLOY
        try:
            await self._journal.finish(
                attempt,
                phase,
                now=self._clock.now(),
                problem=problem,
                events=events,
                standing=Standing.FAILED if deploy and deployment.phase is Phase.RETURNING else None,
                forget=deploy and deployment.phase is Phase.DISCARDING and phase is Phase.FAILED,
            )
            deployment.saved(events)
        except Failed as unwritable:
            # Whoever waits must hear of the end all the same. It is written before the next deployment begins,
            # or when the next agent starts.
            self._log.error("journal_unwritable", problem=str(unwritable))
        deployment.phase = phase
        deployment.publish(event)
        log = self._log.info if problem is None else self._log.error
        log("deployment_finished", outcome=phase.value, version=attempt.version, ms=event.data["ms"])

    async def _save(self) -> None:
        events = self._deployment.unsaved()
        await self._journal.note(self._deployment.id, events=events, phase=self._deployment.phase)
        self._deployment.saved(events)

    def _live(self) -> dict[str, str] | None:
        """What serves now that it is over, as the disk has it."""
        live = self._store.live()
        try:
            return {"release": live, "version": self._store.placed(live).version} if live else None
        except (OSError, WireError):
            return None

    def _ms(self, began: float) -> int:
        return round((self._clock.elapsed() - began) * 1000)


def _stopped() -> Failed:
    return Failed(
        Code.INTERRUPTED,
        "The agent was stopped in the middle of the deployment",
        why="nothing live had been changed, and nothing was",
        hint="Send it again when the agent is up",
    )


def _our_bug(error: Exception) -> Failed:
    return Failed(
        Code.INTERNAL,
        "The agent met a bug of its own",
        why=f"{type(error).__name__}: {error}",
        hint="The traceback is in the agent's log; please report it",
    )


def _stuck(problem: Problem, second: Problem) -> Stuck:
    return Stuck(
        Code.NOT_UNDONE,
        f"{problem.what}, and taking it back failed as well: {second.what}",
        why=second.why or problem.why,
        hint=second.hint,
        output=second.output or problem.output,
    )


Execute = Callable[[Deployment, Bundle | None], Execution]
"""Takes a deployment in hand, with the bundle that it came with."""
