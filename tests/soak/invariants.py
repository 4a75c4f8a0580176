"""What must be true after each point, whatever happened in it.

`before` and `after` are `State`s; the agent recovered twice in between. Each invariant says what is wrong, or
nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.soak.actions import NOT_STARTED, UNKNOWN, Done
from tests.soak.plan import Point
from tests.soak.tampering import Damage

_HINDERED = ("the service is masked", "the socket is masked", "no bus", "no polkit rule")
_DISK = ("a change fails", "no bytes left", "no inodes left", "no descriptors left")


@dataclass(frozen=True, slots=True)
class State:
    """A host as its files and a recovered agent show it.

    `live` is the release that `current` names; `answers` the version that the app says; `version` that of the
    release's manifest. `wrong` has, for each release on disk, what differs from what was signed.
    """

    live: str | None = None
    version: str = ""
    answers: str = ""
    mark: int = 0
    trouble: str = ""
    wrong: dict[str, str] = field(default_factory=dict)
    created: dict[str, int] = field(default_factory=dict)
    staging: tuple[str, ...] = ()
    status: dict[str, Any] = field(default_factory=dict)
    listing: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """One point and what came of it. `done` is None if the agent died in it. `again`: after one more recovery."""

    point: Point
    done: Done | None
    before: State
    after: State
    again: State
    damage: Damage


def broken(seen: Seen) -> list[str]:
    """The invariants that do not hold, in words."""
    return [f"{name}: {why}" for name, check in INVARIANTS.items() for why in check(seen)]


def _whole(seen: Seen) -> Iterator[str]:
    live = seen.after.live
    if live is None:
        if seen.before.live is not None and not seen.damage.link:
            yield f"nothing is live, and it was {seen.before.live}"
    elif live not in seen.damage.releases and (why := seen.after.wrong.get(live, "it is not on disk")):
        yield f"{live}: {why}"


def _answers(seen: Seen) -> Iterator[str]:
    after = seen.after
    if after.live is None or after.live in seen.damage.releases:
        return
    if after.answers != after.version:
        yield f"it answers {after.answers!r}, and current says {after.version!r} ({after.trouble})"
    elif after.trouble:
        yield f"it answers, and the agent says {after.trouble!r}"


def _mark(seen: Seen) -> Iterator[str]:
    floor = max(seen.before.created.values(), default=0) if seen.damage.journal else seen.before.mark
    if seen.after.mark < floor:
        yield f"{seen.after.mark} after {floor}"


def _last_good(seen: Seen) -> Iterator[str]:
    live = seen.before.live
    if seen.damage.link and seen.after.live != live:
        return  # the agent could not know what had been live
    if live and live not in seen.damage.releases and (why := seen.after.wrong.get(live, "it is gone")):
        yield f"{live}: {why}"


def _where(seen: Seen) -> Iterator[str]:
    before, after, done = seen.before, seen.after, seen.done
    if done is None or done.outcome == UNKNOWN or seen.damage.link:
        return
    if done.outcome == "done":
        if done.version and after.version != done.version:
            yield f"{done.version} is done, and {after.version or 'nothing'} is live"
    elif after.live != before.live and seen.point.during not in _DISK:
        yield f"it is {done.outcome or 'nothing'}, and {after.live} is live after {before.live}"


def _outcome(seen: Seen) -> Iterator[str]:
    """What was not disturbed succeeds; what was disturbed says why, and never that it met a bug."""
    point, done = seen.point, seen.done
    if done is None or (done.outcome == NOT_STARTED and seen.damage.journal):
        return
    if done.code == "internal":
        yield done.text
    if done.outcome == "stuck" and point.during not in _DISK:
        yield f"it is stuck: {done.text}"
    if (
        not point.during
        and point.before not in _HINDERED
        and point.action in ("deploy", "drop")
        and done.outcome != "done"
    ):
        yield f"nothing was in the way, and it is {done.outcome} ({done.code}: {done.text})"


def _staging(seen: Seen) -> Iterator[str]:
    if seen.after.staging:
        yield ", ".join(seen.after.staging)


def _ended(seen: Seen) -> Iterator[str]:
    if going := [one["deployment"] for one in seen.after.listing["deployments"] if one["outcome"] is None]:
        yield f"{going} did not end"


def _twice(seen: Seen) -> Iterator[str]:
    if seen.again != seen.after:
        for name in ("live", "version", "answers", "mark", "trouble", "wrong", "staging", "status", "listing"):
            once, twice = getattr(seen.after, name), getattr(seen.again, name)
            if once != twice:
                yield f"{name} is {once}, and once more {twice}"


def lasting(status: dict[str, Any]) -> dict[str, Any]:
    """A status without what changes by itself: how full the disk is."""
    return {name: value for name, value in status.items() if name != "disk"}


INVARIANTS: dict[str, Callable[[Seen], Iterator[str]]] = {
    "current is whole and signed": _whole,
    "the app answers with what current says": _answers,
    "the mark never falls": _mark,
    "the last good release is there": _last_good,
    "what was said is what is live": _where,
    "what nothing disturbs succeeds": _outcome,
    "no staging is left": _staging,
    "every deployment has ended": _ended,
    "recovery twice equals once": _twice,
}
