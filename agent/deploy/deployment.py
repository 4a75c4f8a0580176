"""One deployment as people watch it: its events and its end.

Invariant: events are numbered from 1 without a gap and never change; `finished` is the last one. A deployment
never waits for its watchers: each reads at its own pace.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from agent.core.phases import Phase
from agent.core.plan import Attempt
from agent.host.changes import Changes
from agent.host.ports import Clock, Lines
from agent.host.storage.deployments import Record
from agent.host.storage.journal import Journal
from pusher.wire import Event, Happened, Problem

_OUTPUT_LINES = 5_000
_OUTPUT_CHARACTERS = 1024 * 1024
"""How much output of hooks and steps one deployment keeps: a hook in a loop must not fill memory and journal."""


class Deployment:
    """One deployment, running or past. `phase` is how far it has come."""

    def __init__(
        self, attempt: Attempt, *, clock: Clock, phase: Phase = Phase.VERIFIED, past: Sequence[Event] = ()
    ) -> None:
        self.attempt = attempt
        self.phase = phase
        self.began = clock.elapsed()
        self.warning: Problem | None = None
        """What people should know although the deployment succeeds; its last event says it."""
        self.interrupted = asyncio.Event()
        """Set when the agent stops, or when an operator cancels (`cancelled_by`). Until the switch, that ends the
        deployment, and it is taken back."""
        self.cancelled_by = ""
        self._clock = clock
        self._events = list(past)
        self._saved = len(self._events)
        self._saved_phase = phase
        self._output = 0
        self._output_characters = 0
        self._changes = Changes()
        self._consumed = asyncio.Event()
        self._listener: Callable[[Attempt, Event], None] = lambda _, __: None

    @property
    def id(self) -> str:
        return self.attempt.id

    @property
    def app(self) -> str:
        return self.attempt.app

    @property
    def outcome(self) -> str | None:
        """`done`, `failed` or `stuck` once it has ended."""
        last = self._events[-1] if self._events else None
        return str(last.data["outcome"]) if last and last.event == Happened.FINISHED else None

    async def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """Its events with `seq` above `after`, as they happen; ends after `finished`."""
        at = max(after, 0)
        while True:
            change = self._changes.next()
            while at < len(self._events):
                yield self._events[at]
                at += 1
            if self.outcome is not None:
                if at > len(self._events):
                    # An agent that died numbered more events than it could write down. The end is what matters.
                    yield self._events[-1]
                return
            await change.wait()

    async def finished(self) -> Event:
        """Wait for its last event."""
        async for event in self.events(after=len(self._events) - 1):
            last = event
        return last

    async def consumed(self) -> None:
        """Return when nothing more will be read of its bundle."""
        await self._consumed.wait()

    def summary(self) -> dict[str, Any]:
        """Its facts, and its outcome (null while it runs)."""
        return {
            "deployment": self.id,
            "app": self.app,
            "kind": self.attempt.kind.value,
            "version": self.attempt.version,
            "release": self.attempt.release,
            "previous": self.attempt.previous,
            "manifest": self.attempt.manifest or None,
            "by": self.attempt.by,
            "outcome": self.outcome,
        }

    def course(self) -> dict[str, Any]:
        """Who signed it (null if that is not known), and its steps and hooks so far: name, outcome, milliseconds.

        The steps of old deployments are not kept.
        """
        signers = [str(one.data["signer"]) for one in self._events if one.data.get("signer")]
        ended = {Happened.STEP_DONE, Happened.HOOK_DONE, Happened.STEP_FAILED, Happened.HOOK_FAILED,
                 Happened.UNDO_DONE, Happened.UNDO_FAILED}  # fmt: skip
        steps = [_step(one) for one in self._events if one.event in ended]
        return {"signed_by": signers[0] if signers else None, "steps": steps}

    def cancel(self, *, by: str) -> None:
        """End it, if nothing of it is live yet. It is taken back, and names who wanted that."""
        self.cancelled_by = by
        self.interrupted.set()

    def subscribe(self, listener: Callable[[Attempt, Event], None]) -> None:
        """Call `listener`, which must not wait, with each event from now on. It replaces the one before."""
        self._listener = listener

    def next_event(self, happened: Happened, **data: Any) -> Event:
        """Make the next event, without publishing it."""
        return Event(len(self._events) + 1, self._clock.now(), happened, data)

    def publish(self, event: Event) -> None:
        """Show an event to all watchers."""
        self._events.append(event)
        if event.event == Happened.FINISHED:
            self._consumed.set()
        self._listener(self.attempt, event)
        self._changes.announce()

    def happened(self, happened: Happened, **data: Any) -> None:
        """Make and publish the next event."""
        self.publish(self.next_event(happened, **data))

    def output(self, source: str) -> Lines:
        """A function that publishes a line which a step or hook wrote."""

        def line(text: str) -> None:
            if self._output < 0:
                return
            self._output += 1
            self._output_characters += len(text)
            if self._output > _OUTPUT_LINES or self._output_characters > _OUTPUT_CHARACTERS:
                self._output = -1
                text = f"(over {_OUTPUT_LINES} lines or {_OUTPUT_CHARACTERS} characters: the rest is not kept)"
            self.happened(Happened.OUTPUT, source=source, text=text)

        return line

    def mark_consumed(self) -> None:
        """Note that nothing more will be read of its bundle, or that it has none."""
        self._consumed.set()

    def unsaved(self) -> list[Event]:
        """The events that are not in the journal yet."""
        return self._events[self._saved :]

    @property
    def saved(self) -> bool:
        """Whether the journal has all of its events, and its phase."""
        return self._saved == len(self._events) and self._saved_phase is self.phase

    def mark_saved(self, events: Sequence[Event]) -> None:
        """Note that the journal has these events now, and the phase."""
        self._saved += len(events)
        self._saved_phase = self.phase


def _step(event: Event) -> dict[str, Any]:
    undo = event.event in (Happened.UNDO_DONE, Happened.UNDO_FAILED)
    failed = event.event in (Happened.STEP_FAILED, Happened.HOOK_FAILED, Happened.UNDO_FAILED)
    kind = "hook" if "hook" in event.data else "undo" if undo else "step"
    name = event.data.get("hook") or event.data.get("step")
    return {
        "kind": kind,
        "name": name,
        "outcome": "failed" if failed else "done",
        "ms": event.data.get("ms"),
    }


async def recorded(record: Record, *, journal: Journal, clock: Clock) -> Deployment:
    """A deployment as the journal has it. Raises: Failed."""
    manifest = {"manifest": record.manifest or None}
    # Those of an agent that did not tell the manifest yet tell it now.
    past = [replace(one, data={**manifest, **one.data}) if one.event == Happened.FINISHED else one
            for one in await journal.events(record.attempt.id)]  # fmt: skip
    deployment = Deployment(record.attempt, clock=clock, phase=record.phase, past=past)
    if record.finished is not None and deployment.outcome is None:
        # The history drops old events; how the deployment ended stays.
        problem = {"problem": record.problem} if record.problem else {}
        facts = {**deployment.summary(), "outcome": record.phase.value}
        deployment.happened(Happened.FINISHED, **facts, ms=record.ms, **problem)
    deployment.mark_consumed()
    return deployment
