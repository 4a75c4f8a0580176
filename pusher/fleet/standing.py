"""How a fleet stands to its channel: each host's state as seen from the document, counts, and what a script may
read.

Invariant: pure. A host counts as current only if it says so of the release that the document names now; who was
never heard of counts as silent, not as nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pusher.fleet.reports import Heard, is_silent
from pusher.wire.channel import Channel

SILENT, UNSEEN, UNPROVED = "silent", "unseen", "unproved"
"""States that no host reports: nothing heard; another document is known there; a report that does not count."""

NO_VERSION = "-"
"""Counted as the version of a host that has none."""

_READING = ("refused", "unreachable", "stale")
"""What a host says of the document that it reads, or cannot read: it counts also where that is not the newest."""

_AHEAD_MS = 5 * 60_000
"""So much ahead of ours a host's clock may be without a word: a host accepts as much of a publisher."""

_EXIT_CODES = {
    1: ("failed",),
    4: ("refused", "held", "ahead", "stale", UNPROVED),
    5: (SILENT, "unreachable"),
}

_WORST = [state for states in _EXIT_CODES.values() for state in states]

WHY = {
    "held": "a person made another release live there; it follows the next one, or `pusher rollout retry`",
    "ahead": "it accepted something newer, and does not keep this release: publish that version anew",
    "stale": "the channel document has expired: pusher channel renew",
}
"""What such a host does not say itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """One host: its state, the version that is live there, and why, for people."""

    name: str
    state: str
    version: str = ""
    why: str = ""
    heard: Heard | None = None


def places(document: Channel | None, heard: Sequence[Heard], *, now: int) -> list[Place]:
    """Each host's place, in the order of `heard`. `now` in ms since 1970. Without a document, as the hosts say."""
    return [_place(document, one, now=now) for one in heard]


def counts(found: Sequence[Place]) -> list[tuple[str, str, int]]:
    """Version, state and number of hosts, the most first."""
    counted = Counter((one.version or NO_VERSION, one.state) for one in found)
    return [(version, state, number) for (version, state), number in counted.most_common()]


def exit_code(found: Sequence[Place]) -> int:
    """0: all are current. 1: some failed. 4: some refuse or are held. 5: some are silent. Else 1: not all are
    yet.
    """
    states = {one.state for one in found}
    for code, bad in _EXIT_CODES.items():
        if states & {*bad}:
            return code
    return 0 if states <= {"current"} else 1


def is_unwell(place: Place) -> bool:
    """Whether a person should know of this host by name."""
    return place.state in _WORST


def by_urgency(found: Sequence[Place]) -> list[Place]:
    """The same places, those first that a person should look at first; the current ones last."""

    def urgency(place: Place) -> int:
        return _WORST.index(place.state) if is_unwell(place) else len(_WORST) + (place.state == "current")

    return sorted(found, key=urgency)


def _place(document: Channel | None, heard: Heard, *, now: int) -> Place:
    report = heard.report
    if report is None:
        return Place(heard.name, UNPROVED if heard.why else SILENT, "", heard.why or "it never reported", heard)
    version = report.live.version if report.live else ""
    why = report.problem.get("title", "")
    if detail := report.problem.get("detail"):
        why = f"{why}: {detail}"
    if report.awaited:
        why = why or f"for its {report.awaited}"
    why = why or WHY.get(report.state, "")
    if is_silent(heard, now=now, silent_s=document.rollout.silent_s if document else 1_800):
        # Its last word may say why: of a host whose clock is late, each report looks old.
        last = f"; at last {report.state}{': ' if why else ''}{why}" if report.state != "current" else ""
        return Place(heard.name, SILENT, version, f"for {_span(now - report.created)}{last}", heard)
    if (ahead := report.created - now) > _AHEAD_MS:
        # It would not be called silent for that long.
        why = f"{why}{'; ' if why else ''}its clock is {_span(ahead)} ahead of this one"
    if document is not None and not _knows(document, heard):
        if report.state not in _READING:
            return Place(heard.name, UNSEEN, version, f"{report.state}, by an earlier document", heard)
        why = f"{why}; it knows {'an earlier document' if report.wanted else 'no document'}"
    return Place(heard.name, report.state, version, why, heard)


def _knows(document: Channel, heard: Heard) -> bool:
    """Whether a host has seen what the channel wants now: this release, with this attempt."""
    report = heard.report
    return (
        report is not None
        and report.wanted is not None
        and (report.wanted.manifest, report.attempt)
        == (document.target.release.manifest, document.rollout.attempt)
    )


def _span(ms: int) -> str:
    minutes = ms // 60_000
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"
