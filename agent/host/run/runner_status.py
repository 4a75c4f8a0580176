"""What the runner says of itself, read: which release serves as which process, and why another does not.

Invariant: it is the runner's word, which the app cannot speak in its place: systemd takes `STATUS=` from a unit's
main process only (`NotifyAccess=main`), the embedded agent from a socket that the app does not have.
"""

import re
from dataclasses import dataclass

_SERVES = re.compile(r"(?:^|; )(\S+) (?:serves|runs) as process (\d+) \(since ([\d.]+) s after boot\)$")
_REFUSED = re.compile(r"^(\S+) was not started: (.*?); \S+ (?:serves|runs) as process ")


@dataclass(frozen=True, slots=True)
class RunnerStatus:
    """`release` serves as process `pid`, started at `started_us` (CLOCK_MONOTONIC, microseconds).

    `problem` says why the release that the last reload was about does not; empty if it does.
    """

    release: str
    pid: int
    started_us: int
    problem: str = ""


def parse_status(text: str) -> RunnerStatus | None:
    """A status line of the runner (see `Runner.tell`); None for anything else, as of a unit without a runner."""
    serves = _SERVES.search(text)
    if serves is None:
        return None
    refused = _REFUSED.match(text)
    return RunnerStatus(
        release=serves[1],
        pid=int(serves[2]),
        started_us=round(float(serves[3]) * 1_000_000),
        problem=refused[2] if refused else "",
    )
