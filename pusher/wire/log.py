"""The app's own log as NDJSON: one JSON object a line, of whichever of its units wrote it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pusher.wire.problems import Problem
from pusher.wire.text import WireError, canonical, format_timestamp, parse_object, parse_timestamp, take

LOG_LINES = 100
"""So many lines are shown unless told otherwise."""

LOG_LINES_MOST = 10_000
"""So many lines can be asked for."""

PRIORITY = 6
"""What somebody writes who says nothing else: "informational" (syslog(3))."""


class LogUnit(StrEnum):
    """Who writes the log of an app: its units under systemd, and what answers to them without."""

    SERVICE = "service"
    SOCKET = "socket"
    PREFLIGHT = "preflight"
    HOOK = "hook"


@dataclass(frozen=True, slots=True)
class LogLine:
    """Something that a unit of the app wrote, or that was said about it; `message` may have several lines.

    `time` is milliseconds since 1970 (UTC), `priority` that of syslog(3), `pid` None where it is not known.
    """

    time: int
    unit: str
    message: str
    priority: int = PRIORITY
    pid: int | None = None

    def to_line(self) -> bytes:
        """It as one NDJSON line, newline included."""
        members = {"time": format_timestamp(self.time), "unit": self.unit, "message": self.message}
        return canonical({**members, "priority": self.priority, "pid": self.pid}) + b"\n"

    @staticmethod
    def broken_off(problem: Problem) -> bytes:
        """The last line of a log that could not be read to its end."""
        return canonical({"problem": problem.to_document()}) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """What a line spells; members that are not known are passed over.

        Raises: Problem, for the last line of a log that could not be read to its end; WireError.
        """
        members = parse_object(line, "a line of the log")
        if "problem" in members:
            raise Problem.from_document(take(members, "problem", dict))
        pid = members.get("pid")
        if pid is not None and not isinstance(pid, int):
            raise WireError("'pid' is not a number")
        return cls(
            time=parse_timestamp(take(members, "time", str)),
            unit=take(members, "unit", str),
            message=take(members, "message", str),
            priority=take(members, "priority", int),
            pid=pid,
        )
