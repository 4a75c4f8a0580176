"""Drops, which are what lies in a drop directory: their names, what becomes of one, and how long it is kept.

Invariant: names, codes and times in, words out. A drop is refused only for what no later arrival can mend;
otherwise it waits, and says for what (docs/reference/drop-directory.md has the table).
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

SCANNED_MOST = 100
"""How many bundle files one scan examines; `agent.core.fair_queue` chooses them."""
REMEMBERED_MOST = 10_000
"""How many rejected files to remember until they change: about 4 MB."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0
"""The pauses between scans while a drop waits for a condition the kernel cannot report."""

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
_CHANGED = frozenset({Code.CONTENT_MISMATCH, Code.BUNDLE_MALFORMED, Code.UPLOAD_BROKEN})
# Not UPLOAD_BROKEN: a file that is there and cannot be read is a fault of this host, which no arrival mends.
_INCOMPLETE = frozenset({Code.CONTENT_MISMATCH, Code.BUNDLE_MALFORMED, Code.BUNDLE_INCOMPLETE})


class State(StrEnum):
    """What became of a drop."""

    WAITING = "waiting"
    DEPLOYED = "deployed"
    REFUSED = "refused"
    FAILED = "failed"


class Awaited(StrEnum):
    """What a waiting drop waits for, for programs."""

    ARRIVAL = "arrival"  # a part of it has yet to arrive
    TURN = "turn"  # a deployment is under way: its own, or another one
    HOST = "host"  # something is wrong on this host, and nothing else keeps it from being deployed


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one drop so far. `waiting_for` is for people. A member that is unknown or absent is empty."""

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
        """As JSON members, without the empty ones."""
        known: dict[str, Any] = {"name": self.name, "state": self.state.value}
        if self.awaited is not None:
            known |= {"awaited": self.awaited.value, "waiting_for": self.waiting_for}
        for member in ("manifest", "version", "deployment", "release", "step", "problem"):
            if value := getattr(self, member):
                known[member] = value
        return known


class Final(NamedTuple):
    """A drop that no longer waits, for retention. `since` is when it ceased to, in milliseconds since 1970."""

    name: str
    since: int


def drops(names: Iterable[str]) -> list[str]:
    """The names of the drops among the names in a drop directory: the folder first, then the bundle files, sorted.

    The names that rsync gives to unfinished files begin with a dot, and are not among them.
    """
    found = set(names)
    bundles = {name for name in found if _BUNDLE.fullmatch(name)}
    folder = [DROP_FOLDER] if found & {DROP_FOLDER, DROP_MANIFEST, DROP_SIGNATURE, DROP_INDEX} else []
    return [*folder, *sorted(bundles)]


def results(names: Iterable[str]) -> dict[str, str]:
    """The drops that have a result, by the name of the result's file. The drop itself may be gone."""
    files = {name: name.removesuffix(DROP_RESULT_END) for name in names if name.endswith(DROP_RESULT_END)}
    return {file: name for file, name in files.items() if name == DROP_FOLDER or _BUNDLE.fullmatch(name)}


def result_name(name: str) -> str:
    """The name of the file that says what became of the drop `name`."""
    return f"{name}{DROP_RESULT_END}"


def is_ignored(name: str) -> bool:
    """Whether a name in a drop directory belongs to no drop, so that a change of it does not matter."""
    return not drops([name])


def is_final(problem: Problem, *, manifest_apart: bool) -> bool:
    """Whether no later arrival can mend a problem.

    `manifest_apart`: manifest and signature are two files and arrive in any order, so a signature that does not
    fit may be followed by one that does.
    """
    return problem.code in _FINAL and not (manifest_apart and problem.code is Code.SIGNATURE_INVALID)


def changed_meanwhile(problem: Mapping[str, Any] | None) -> bool:
    """Whether a deployment failed only because its files were changed meanwhile, which a later arrival can
    mend."""
    return problem is not None and problem.get("code") in _CHANGED


def awaited(problem: Problem) -> Awaited:
    """What must happen before a drop with this problem, which is not final, can be deployed."""
    if problem.code in _INCOMPLETE or problem.code is Code.SIGNATURE_INVALID:
        return Awaited.ARRIVAL
    return Awaited.TURN if problem.code is Code.BUSY else Awaited.HOST


def surplus(final: Iterable[Final], *, now: int, keep: int, days: float) -> list[str]:
    """The names of the drops to remove: all but the `keep` newest, and of these the ones older than `days`."""
    newest = sorted(final, key=lambda one: (one.since, one.name), reverse=True)
    return [one.name for at, one in enumerate(newest) if at >= keep or one.since < now - days * _DAY_MS]


def document(app: str, result: Result, *, since: int) -> dict[str, Any]:
    """A result as it is written beside the drop. `since` is when it became so, in milliseconds since 1970."""
    return {"app": app, **result.members(), "since": format_timestamp(since)}


def says_the_same(document: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two result documents differ in their times only."""
    return _timeless(document) == _timeless(other)


def failed_step(events: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The step (or hook) at which a deployment failed, from its events' names and data. Empty if none failed."""
    for event, data in events:
        if event in ("step_failed", "hook_failed"):
            return str(data.get("step") or data.get("hook"))
    return ""


def _timeless(document: Mapping[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in document.items() if member != "since"}
