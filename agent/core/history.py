"""What the records of a history say, compared with what the journal's tables say.

Invariant: everything that people are told about deployments and releases follows from the records: who began what,
how it ended, and what became of each release. A table that says something else was changed by another hand.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agent.core.plan import Kind
from agent.core.releases import Standing
from pusher.wire import Head, canonical

Facts = Mapping[str, Any]


class What(StrEnum):
    """What a record is about."""

    BEGINS = "begins"  # the history itself, with what the journal knew before
    BEGUN = "begun"  # a deployment
    STANDS = "stands"  # releases have another standing: the commit of a deployment
    ENDED = "ended"  # a deployment, with a digest of its events
    FOUND = "found"  # releases on disk that the journal did not know
    GONE = "gone"  # a release
    PINNED = "pinned"  # a release, or no longer
    COMMAND = "command"  # a person runs one in the live release
    EXITED = "exited"  # that command, with its exit code


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The rows of one app: `begun` and `ended` facts of each deployment by its id, and the facts of releases."""

    begun: Mapping[str, Facts]
    ended: Mapping[str, Facts]
    releases: Mapping[str, Facts]
    accepted: int | None
    events: Mapping[str, str] = field(default_factory=dict)
    """The digest of a deployment's events, for those that were read."""


def line(app: str, record: int, what: What, facts: Facts) -> bytes:
    """The record of this number, as its bytes are hashed."""
    return canonical({"app": app, "record": record, "what": what.value, **facts})


def before(tables: Tables) -> dict[str, Any]:
    """The facts of the first record: what was in the tables when the history began.

    Deployments that had ended count by their digest. One that had not is recorded on its own.
    """
    rows = [{**tables.begun[one], **tables.ended[one]} for one in sorted(tables.ended)]
    return {
        "deployments": len(rows),
        "digest": digest_of(canonical(row) for row in rows),
        "releases": [dict(tables.releases[one]) for one in sorted(tables.releases)],
        "accepted": tables.accepted,
    }


def digest_of(lines: Iterable[bytes]) -> str:
    """The SHA-256 of lines, each with a newline."""
    digest = hashlib.sha256()
    for one in lines:
        digest.update(one + b"\n")
    return digest.hexdigest()


def difference(records: Iterable[tuple[int, bytes, str]], tables: Tables) -> str:
    """The first sign that a history was changed, in words; empty if there is none.

    `records` are number, line and hash of each, in order.
    """
    head, replay = Head(), _Replay()
    for number, text, digest in records:
        if number != head.records + 1:
            return f"record {head.records + 1} is missing"
        head = head.then(text)
        if head.hash != digest:
            return f"record {number} was changed"
        try:
            replay.add(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return f"record {number} cannot be read"
    if not head.records:
        return "its records are gone" if tables.begun or tables.releases else ""
    return replay.difference(tables)


class _Replay:
    """What follows from the records so far."""

    def __init__(self) -> None:
        self._before: Facts = {}
        self._begun: dict[str, Facts] = {}
        self._ended: dict[str, Facts] = {}
        self._events: dict[str, str] = {}
        self._releases: dict[str, dict[str, Any]] = {}
        self._accepted: int | None = None

    def add(self, members: Facts) -> None:
        facts = {key: value for key, value in members.items() if key not in ("app", "record", "what")}
        match What(members["what"]):
            case What.BEGINS:
                self._before = facts
                self._accepted = facts["accepted"]
                self._releases = {one["id"]: dict(one) for one in facts["releases"]}
            case What.BEGUN:
                self._begin(facts)
            case What.STANDS:
                self._stand(facts["standings"])
            case What.ENDED:
                self._end(facts)
            case What.FOUND:
                self._releases |= {one["id"]: dict(one) for one in facts["releases"]}
            case What.GONE:
                del self._releases[facts["release"]]
            case What.PINNED:
                self._releases[facts["release"]]["pinned"] = facts["pinned"]

    def _begin(self, facts: dict[str, Any]) -> None:
        created = facts.pop("created")
        self._begun[facts["id"]] = facts
        if created is not None and facts["kind"] == Kind.DEPLOY:
            self._accepted = max(created, self._accepted or created)
            self._releases[facts["release"]] = candidate(facts, created=created)

    def difference(self, tables: Tables) -> str:
        return next(filter(None, self._differences(tables)), "")

    def _differences(self, tables: Tables) -> Iterable[str]:
        yield from _compared("deployment", self._begun, tables.begun)
        yield from _compared("deployment", self._ended, tables.ended)
        earlier = [one for one in tables.begun if one not in self._begun]
        rows = Tables(
            begun=tables.begun,
            ended={one: tables.ended[one] for one in earlier if one in tables.ended},
            releases={},
            accepted=None,
        )
        found = before(rows)
        added = [one for one in earlier if one not in tables.ended] + [
            one for one in tables.ended if one in self._begun and one not in self._ended
        ]
        if added:
            yield f"deployment {min(added)} is not as it was recorded"
        if (found["deployments"], found["digest"]) != (self._before["deployments"], self._before["digest"]):
            yield "the deployments from before the history began are other ones"
        for one, digest in tables.events.items():
            if one in self._events and self._events[one] != digest:
                yield f"the events of deployment {one} are other ones"
        yield from _compared("release", self._releases, tables.releases)
        for one in tables.releases.keys() - self._releases.keys():
            yield f"release {one} was never recorded"
        if tables.accepted != self._accepted:
            yield "the time of the newest accepted bundle is another one"

    def _stand(self, standings: Mapping[str, str]) -> None:
        for release in standings.keys() & self._releases.keys():
            self._releases[release]["standing"] = standings[release]

    def _end(self, facts: dict[str, Any]) -> None:
        deployment = facts.pop("id")
        self._events[deployment] = facts.pop("events")
        release = self._begun[deployment]["release"]
        if standing := facts.pop("standing"):
            self._stand({release: standing})
        if facts.pop("forget"):
            self._releases.pop(release, None)
        self._ended[deployment] = facts


def candidate(begun: Facts, *, created: int) -> dict[str, Any]:
    """The facts of the release that a deployment brings."""
    return {
        "id": begun["release"],
        "version": begun["version"],
        "standing": Standing.CANDIDATE.value,
        "created": created,
        "pinned": False,
        "by": begun["by"],
    }


def _compared(kind: str, recorded: Mapping[str, Facts], there: Mapping[str, Facts]) -> Sequence[str]:
    found = []
    for one, facts in recorded.items():
        if one not in there:
            found.append(f"{kind} {one} is gone")
        elif there[one] != facts:
            member = next(key for key in facts.keys() | there[one].keys() if facts.get(key) != there[one].get(key))
            found.append(f"{kind} {one} is not as it was recorded: its {member} is another one")
    return found
