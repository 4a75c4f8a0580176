"""A deployment as everybody but the one who carries it out sees it: its events, and its end.

Invariant: events are numbered from 1 without a gap and never change; `finished` is the last. Watching costs a
deployment nothing: a reader takes what there is when it gets to it, and none is waited for.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from agent.core.phases import Phase
from agent.core.plan import Attempt
from agent.host.ports import Clock, Lines
from agent.host.storage.journal import Journal, Record
from pusher.wire import Event, Happened, Problem

_OUTPUT_LINES = 5_000
_OUTPUT_CHARACTERS = 1024 * 1024
"""What one deployment keeps of what hooks and steps write: a hook in a loop must not fill memory and journal."""


class Deployment:
    """One deployment, running or past."""

    def __init__(self, attempt: Attempt, *, clock: Clock, phase: Phase, past: Sequence[Event] = ()) -> None:
        self.attempt = attempt
        self.phase = phase
        self.warning: Problem | None = None
        """What people should hear of although it goes well; told with its end."""
        self._clock = clock
        self._events = list(past)
        self._saved = len(self._events)
        self._output = 0
        self._output_characters = 0
        self._news = asyncio.Event()
        self._taken_in = asyncio.Event()
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
            news = self._news
            while at < len(self._events):
                yield self._events[at]
                at += 1
            if self.outcome is not None:
                if at > len(self._events):
                    # Numbered by an agent that died before it had written that down: the end is what matters.
                    yield self._events[-1]
                return
            await news.wait()

    async def finished(self) -> Event:
        """Its last event, when it has happened."""
        async for event in self.events(after=len(self._events) - 1):
            last = event
        return last

    async def taken_in(self) -> None:
        """Return when nothing more will be read of the bundle it came with."""
        await self._taken_in.wait()

    def summary(self) -> dict[str, Any]:
        """What it is, and its outcome (null while it runs)."""
        return {
            "deployment": self.id,
            "app": self.app,
            "kind": self.attempt.kind.value,
            "version": self.attempt.version,
            "release": self.attempt.release,
            "previous": self.attempt.previous,
            "by": self.attempt.by,
            "outcome": self.outcome,
        }

    def next_event(self, happened: Happened, **data: Any) -> Event:
        """The event that would be next; `publish` makes it so."""
        return Event(len(self._events) + 1, self._clock.now(), happened, data)

    def publish(self, event: Event) -> None:
        """Show an event to everybody who watches."""
        self._events.append(event)
        if event.event == Happened.FINISHED:
            self._taken_in.set()
        self._listener(self.attempt, event)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def happened(self, happened: Happened, **data: Any) -> None:
        """Make and publish the next event."""
        self.publish(self.next_event(happened, **data))

    def output(self, source: str) -> Lines:
        """Takes lines that a step or hook writes."""

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

    def tell(self, listener: Callable[[Attempt, Event], None]) -> None:
        """Have each event from now on told to `listener` at once, which must not wait."""
        self._listener = listener

    def body_read(self) -> None:
        """Note that the bundle has been read whole, or will not be read."""
        self._taken_in.set()

    def unsaved(self) -> list[Event]:
        """The events that are not in the journal yet."""
        return self._events[self._saved :]

    def saved(self, events: Sequence[Event]) -> None:
        """Note that these are in the journal now."""
        self._saved += len(events)


async def recorded(record: Record, *, journal: Journal, clock: Clock) -> Deployment:
    """A deployment as the journal has it. Raises: Failed."""
    deployment = Deployment(
        record.attempt, clock=clock, phase=record.phase, past=await journal.events(record.attempt.id)
    )
    if record.finished is not None and deployment.outcome is None:
        # The history keeps no events for ever; how it ended stays.
        problem = {"problem": record.problem} if record.problem else {}
        facts = {**deployment.summary(), "outcome": record.phase.value}
        deployment.happened(Happened.FINISHED, **facts, ms=record.finished - record.started, **problem)
    deployment.body_read()
    return deployment
