"""The log of an app as NDJSON: one JSON object a line, from any of its units."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pusher.wire.problems import Problem
from pusher.wire.text import WireError, canonical, format_timestamp, parse_object, parse_timestamp, take

LOG_LINES = 100
"""How many lines are shown by default."""

LOG_LINES_MOST = 10_000
"""How many lines can be asked for."""

PRIORITY = 6
"""The default priority: "informational" (syslog(3))."""


class LogUnit(StrEnum):
    """The sources of the log of an app: its units under systemd, or their equivalents without."""

    SERVICE = "service"
    SOCKET = "socket"
    PREFLIGHT = "preflight"
    HOOK = "hook"


@dataclass(frozen=True, slots=True)
class LogLine:
    """A message from a unit of the app, or from systemd about it; it may have several lines.

    `time` is milliseconds since 1970 (UTC), `priority` that of syslog(3), `pid` None if it is not known.
    """

    time: int
    unit: str
    message: str
    priority: int = PRIORITY
    pid: int | None = None

    def to_line(self) -> bytes:
        """The message as one NDJSON line, newline included."""
        members = {"time": format_timestamp(self.time), "unit": self.unit, "message": self.message}
        return canonical({**members, "priority": self.priority, "pid": self.pid}) + b"\n"

    @staticmethod
    def broken_off(problem: Problem) -> bytes:
        """The last line of a log that could not be read to its end."""
        return canonical({"problem": problem.to_document()}) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """The message in a line. Unknown members are ignored.

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
