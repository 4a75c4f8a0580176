"""The progress of a deployment as NDJSON: one event a line, numbered, so that a reader can go on where it was."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from pusher.wire.text import canonical, format_timestamp, parse_object, parse_timestamp, take, take_count

EVENTS_TYPE = "application/x-ndjson"


class Happened(StrEnum):
    """The events of a deployment, in the order they can come, each with its own members.

    A client ignores events that it does not know. `finished` is always the last.
    """

    STARTED = "started"  # deployment app kind version release previous by
    STEP_STARTED = "step_started"  # step
    STEP_DONE = "step_done"  # step ms
    STEP_FAILED = "step_failed"  # step ms problem
    HOOK_STARTED = "hook_started"  # hook origin ("release" or "host")
    HOOK_DONE = "hook_done"  # hook origin ms
    HOOK_FAILED = "hook_failed"  # hook origin ms problem
    OUTPUT = "output"  # source (a hook or step) text (one line)
    UNDO_STARTED = "undo_started"  # step
    UNDO_DONE = "undo_done"  # step ms
    UNDO_FAILED = "undo_failed"  # step ms problem
    FINISHED = "finished"  # outcome (done, failed or stuck) deployment app version release live ms problem warning


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a deployment's progress. `seq` counts from 1; `time` is milliseconds since 1970 (UTC)."""

    seq: int
    time: int
    event: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_line(self) -> bytes:
        """The event as one NDJSON line, newline included."""
        members = {**self.data, "seq": self.seq, "time": format_timestamp(self.time), "event": self.event}
        return canonical(members) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """The event in a line. Unknown members are its data. Raises: WireError."""
        members = parse_object(line, "an event")
        seq, time = take_count(members, "seq"), parse_timestamp(take(members, "time", str))
        event = take(members, "event", str)
        return cls(seq, time, event, {k: v for k, v in members.items() if k not in ("seq", "time", "event")})
