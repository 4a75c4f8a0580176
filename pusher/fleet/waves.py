"""The next step of a rollout: open a wave, set the brake, or wait.

Invariant: one pure function over the document, where the hosts of the inventory stand, and the brake. Two
machines that ask it at the same time come to the same, and only one of them replaces the document. Its rules,
the first that fits:

1. The brake is set, or the channel is paused: it stands still.
2. `max_failed` hosts of the open waves have failed: set the brake.
3. A host of the open waves is heard of and not current: wait for it.
4. What is heard proves nothing: wait. No host of the open waves is heard of; or a place with reports does not
   answer, so that a later word may lie there. Before another wave opens, a host of each open one must be heard of,
   and one that names hosts must name one of the inventory.
5. There is another wave: open it. Else: it is done.

Silent hosts are named and block nothing: one that is off catches up by itself.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pusher.fleet.standing import SILENT, UNPROVED, Place
from pusher.wire.channel import Channel, Rollout, wave_of


class Step(StrEnum):
    """What to do next."""

    STANDS = "stands still"
    BRAKE = "brake"
    WAIT = "wait"
    OPEN = "open"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Next:
    """The step, why, and the hosts that it is about; `silent` are those that nobody waits for."""

    step: Step
    why: str
    hosts: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


def next_step(document: Channel, found: Sequence[Place], *, braked: bool) -> Next:
    """The next step of the rollout in a document, by the rules in the docstring of this module."""
    rollout, manifest = document.rollout, document.target.release.manifest
    number = {one.name: wave_of(rollout, manifest=manifest, host=one.name) for one in found}
    begun = [one for one in found if (wave := number[one.name]) is not None and wave <= rollout.open]
    failed = tuple(one.name for one in begun if one.state == "failed" and _has_tried(one, document))
    if braked:
        return Next(Step.STANDS, "the brake is set", failed)
    if document.state == "paused":
        return Next(Step.STANDS, "the channel is paused")
    if len(failed) >= rollout.max_failed:
        return Next(Step.BRAKE, f"{len(failed)} failed, and {rollout.max_failed} may not", failed)
    silent = tuple(one.name for one in begun if one.state in (SILENT, UNPROVED))
    late = tuple(one.name for one in begun if one.state not in (SILENT, UNPROVED, "current"))
    if late:
        return Next(Step.WAIT, f"{len(late)} of {len(begun)} are not current yet", late, silent)
    if begun and len(silent) == len(begun):
        return Next(Step.WAIT, "no host of the open waves is heard of", silent, silent)
    if unread := tuple(one.name for one in begun if one.heard is not None and one.heard.unread):
        return Next(Step.WAIT, "a place with reports does not answer", unread, silent)
    if rollout.open < len(rollout.waves):
        if why := _unproved(rollout, number, silent):
            return Next(Step.WAIT, why, silent, silent)
        return Next(Step.OPEN, f"all {len(begun) - len(silent)} that are heard of are current", (), silent)
    return Next(Step.DONE, f"all {len(begun) - len(silent)} that are heard of are current", (), silent)


def _has_tried(place: Place, document: Channel) -> bool:
    """Whether it is the wanted release that failed on a host.

    While its wave is closed, a host with nothing live takes the release before. That its wave has opened since is
    news to one that has reported by an earlier document.
    """
    report = place.heard.report if place.heard else None
    return report is None or report.live is not None or report.signed >= document.created


def _unproved(rollout: Rollout, number: Mapping[str, int | None], silent: Collection[str]) -> str:
    """Which open wave proves nothing, and why; empty, if each does. `number` is the wave of each host."""
    for at, wave in enumerate(rollout.waves[: rollout.open], 1):
        there = {name for name, wave_ in number.items() if wave_ == at}
        if there and there <= {*silent}:
            return f"no host of wave {at} is heard of"
        if isinstance(wave, tuple) and not {*wave} & number.keys():
            return f"wave {at} names no host of the inventory"
    return ""
