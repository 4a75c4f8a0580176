"""What lies in a drop directory: which names are landings, what can become of one, what is kept how long.

Invariant: names, codes and times in, words out. What no later arrival can mend is refused; for everything else
somebody waits, and it is said for what (docs/reference/drop-directory.md has the table).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from pusher.wire import (
    DROP_FOLDER,
    DROP_INDEX,
    DROP_MANIFEST,
    DROP_RESULT_END,
    DROP_SIGNATURE,
    Code,
    Problem,
    format_timestamp,
)

LANDINGS_MOST = 100
"""So many bundles' files are looked at at a time, each in its turn (`agent.core.fair_queue`)."""
REMEMBERED_MOST = 10_000
"""Of so many files that are of no use it is remembered, as long as they do not change: about 4 MB."""

_PAUSE_S, _PAUSE_MOST_S = 5.0, 60.0

_BUNDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}\.tar\.zst", re.ASCII)
_DAY_MS = 24 * 3600 * 1000

_FINAL = frozenset(
    {
        Code.SIGNATURE_INVALID,
        Code.SIGNER_UNKNOWN,
        Code.WRONG_APP,
        Code.WRONG_HOST,
        Code.LIMIT_EXCEEDED,
        Code.EXPIRED,
        Code.FROM_THE_FUTURE,
        Code.OLDER_THAN_ACCEPTED,
        Code.NAME_NOT_ALLOWED,
        Code.DEPENDENCIES_FAILED,
    }
)
_TORN = frozenset({Code.CONTENT_MISMATCH, Code.BUNDLE_MALFORMED, Code.UPLOAD_BROKEN})
# Not UPLOAD_BROKEN: what is there and cannot be read is this host's trouble, and nothing that arrives ends it.
_INCOMPLETE = frozenset({Code.CONTENT_MISMATCH, Code.BUNDLE_MALFORMED, Code.BUNDLE_INCOMPLETE})


class State(StrEnum):
    """What became of a landing."""

    WAITING = "waiting"
    DEPLOYED = "deployed"
    REFUSED = "refused"
    FAILED = "failed"


class Awaited(StrEnum):
    """What a waiting landing waits for, for programs."""

    ARRIVAL = "arrival"  # something of it has yet to come
    TURN = "turn"  # a deployment under way, its own or another's
    HOST = "host"  # this host: it would be deployed, were it not for something that is wrong here


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one landing so far; `waiting_for` is for people. Empty is what is not known, or is not."""

    name: str
    state: State
    awaited: Awaited | None = None
    waiting_for: str = ""
    manifest: str = ""
    version: str = ""
    deployment: str = ""
    release: str = ""
    step: str = ""
    problem: Mapping[str, Any] | None = None

    def members(self) -> dict[str, Any]:
        """As JSON members: those that say something."""
        known: dict[str, Any] = {"name": self.name, "state": self.state.value}
        if self.awaited is not None:
            known |= {"awaited": self.awaited.value, "waiting_for": self.waiting_for}
        for member in ("manifest", "version", "deployment", "release", "step", "problem"):
            if value := getattr(self, member):
                known[member] = value
        return known


class Kept(NamedTuple):
    """A settled landing, for retention: when it was settled, in milliseconds since 1970."""

    name: str
    settled: int


def landings(names: Iterable[str]) -> list[str]:
    """The names of the landings among the names in a drop directory: the folder, then bundles' files, sorted.

    Names that rsync gives to what is under way begin with a dot, and are none.
    """
    found = set(names)
    bundles = {name for name in found if _BUNDLE.fullmatch(name)}
    folder = [DROP_FOLDER] if found & {DROP_FOLDER, DROP_MANIFEST, DROP_SIGNATURE, DROP_INDEX} else []
    return [*folder, *sorted(bundles)]


def results(names: Iterable[str]) -> dict[str, str]:
    """The landings that have a result, by the name of its file, whether they are still there or not."""
    files = {name: name.removesuffix(DROP_RESULT_END) for name in names if name.endswith(DROP_RESULT_END)}
    return {file: name for file, name in files.items() if name == DROP_FOLDER or _BUNDLE.fullmatch(name)}


def result_name(name: str) -> str:
    """The file that says what became of the landing `name`."""
    return f"{name}{DROP_RESULT_END}"


def concerns_nobody(name: str) -> bool:
    """Whether what happens to a name in a drop directory can be passed over: it has no part in any landing."""
    return not landings([name])


def is_final(problem: Problem, *, manifest_apart: bool) -> bool:
    """Whether no later arrival can mend it. `manifest_apart`: manifest and signature come as two files, in any
    order, so that a signature which does not fit may be followed by one that does."""
    return problem.code in _FINAL and not (manifest_apart and problem.code is Code.SIGNATURE_INVALID)


def is_torn(problem: Mapping[str, Any] | None) -> bool:
    """Whether a deployment failed only because what it read was changed meanwhile: a later arrival mends that."""
    return problem is not None and problem.get("code") in _TORN


def awaited(problem: Problem) -> Awaited:
    """What has to come about before what met this problem, which is not final, can be deployed."""
    if problem.code in _INCOMPLETE or problem.code is Code.SIGNATURE_INVALID:
        return Awaited.ARRIVAL
    return Awaited.TURN if problem.code is Code.BUSY else Awaited.HOST


def longer(pause: float) -> float:
    """The pause, in seconds, after which to look again what nothing tells of, when the last one was `pause`."""
    return min(max(2 * pause, _PAUSE_S), _PAUSE_MOST_S)


def surplus(settled: Iterable[Kept], *, now: int, keep: int, days: float) -> list[str]:
    """The names that retention lets go: all but the `keep` newest, and of these the ones older than `days`."""
    newest = sorted(settled, key=lambda one: (one.settled, one.name), reverse=True)
    return [one.name for at, one in enumerate(newest) if at >= keep or one.settled < now - days * _DAY_MS]


def document(app: str, result: Result, *, since: int) -> dict[str, Any]:
    """A result as it is written beside the landing; `since` (ms since 1970) is when it came to be so."""
    return {"app": app, **result.members(), "since": format_timestamp(since)}


def says_the_same(document: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two result documents differ in nothing but their times."""
    return _timeless(document) == _timeless(other)


def failed_step(events: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The step (or hook) at which a deployment failed, from its events' names and data; empty if none did."""
    for event, data in events:
        if event in ("step_failed", "hook_failed"):
            return str(data.get("step") or data.get("hook"))
    return ""


def _timeless(document: Mapping[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in document.items() if member != "since"}
