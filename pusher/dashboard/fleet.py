"""A fleet as the page shows it: the release that is spreading, its waves, how many hosts stand where, and by name
those of which a person should know, the unwell first.

Invariant: it is read again only when somebody looks, and most of the time nobody reads: a thousand reports are a
thousand signatures.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pusher.fleet.standing import NO_VERSION, Place, by_urgency, counts, is_unwell
from pusher.fleet.survey import Survey
from pusher.wire import Problem, format_timestamp
from pusher.wire.channel import Channel, wave_of

EVERY_S = 5.0
_NAMED_MOST = 200
_NAMED_ALL = 50
"""In so small a fleet every host is named. In a larger one, those that are well would only hide the others."""
_RESTS = 5
"""How many times longer than it took nothing is read."""


class Fleet:
    """A fleet, looked at by `survey`. Any thread may call `read`."""

    def __init__(self, survey: Callable[[], Survey], *, every_s: float = EVERY_S) -> None:
        self._survey = survey
        self._every_s = every_s
        self._lock = threading.Lock()
        self._next = 0.0
        self._found: dict[str, Any] | Problem = {}

    def read(self) -> dict[str, Any]:
        """How the fleet stands. Raises: Problem, if its repository cannot be read."""
        with self._lock:
            began = time.monotonic()
            if began >= self._next:
                try:
                    self._found = fleet_document(self._survey())
                except Problem as problem:
                    self._found = problem
                ended = time.monotonic()
                self._next = ended + max(self._every_s, _RESTS * (ended - began))
            if isinstance(self._found, Problem):
                raise self._found.with_traceback(None)  # it is raised for each look
            return self._found


def fleet_document(seen: Survey) -> dict[str, Any]:
    """What was found, for the page."""
    named = [_place(one) for one in _named(seen.places)]
    return {
        "channel": _channel(seen.document, seen) if seen.document else None,
        "hosts": len(seen.places),
        "unwell": sum(map(is_unwell, seen.places)),
        "counts": [
            {"version": None if version == NO_VERSION else version, "state": state, "hosts": number}
            for version, state, number in counts(seen.places)
        ],
        "named": named,
        "left_out": len(seen.places) - len(named),
    }


def _named(places: Sequence[Place]) -> Iterator[Place]:
    """Those that are named, the worst first. Each bad state has its share: a thousand that failed must not hide
    the one that is silent."""
    ordered = by_urgency(places)
    share = _NAMED_MOST // max(1, len({one.state for one in ordered if is_unwell(one)}))
    met, named = Counter[str](), 0
    for one in ordered:
        met[one.state] += 1
        if met[one.state] <= share if is_unwell(one) else named < _NAMED_ALL:
            named += 1
            yield one


def _channel(document: Channel, seen: Survey) -> dict[str, Any]:
    rollout, manifest, now = document.rollout, document.target.release.manifest, time.time() * 1000
    waves: dict[int, Counter[str]] = {}
    for one in seen.places:
        wave = wave_of(rollout, manifest=manifest, host=one.name)
        waves.setdefault(wave or 0, Counter())[_kind(one)] += 1
    return {
        "app": document.app,
        "name": document.channel,
        "version": document.target.release.version,
        "state": "expired" if document.expires <= now else "braked" if seen.braked else document.state,
        "created": format_timestamp(document.created),
        "expires": format_timestamp(document.expires),
        "open": rollout.open,
        "max_failed": rollout.max_failed,
        "waves": [
            {"number": number, "of": len(rollout.waves), **waves.get(number, {})}
            for number in range(1, len(rollout.waves) + 1)
        ],
        "none": sum(waves.get(0, {}).values()) or None,
    }


def _kind(place: Place) -> str:
    return "current" if place.state == "current" else "unwell" if is_unwell(place) else "others"


def _place(place: Place) -> dict[str, Any]:
    # When it reported is left out: hosts report all the time, and of one that is silent `why` says since when.
    return {
        "host": place.name,
        "state": place.state,
        "unwell": is_unwell(place),
        "version": place.version or None,
        "why": place.why,
    }
