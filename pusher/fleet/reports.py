"""The reports of a fleet: read from its repositories, and believed only with the signature of the host they are
about.

Invariant: every host of the inventory is in the result once. Of several reports of one host the newest counts.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

from pusher.fleet.host_key import is_signed
from pusher.fleet.inventory import Member
from pusher.fleet.proved import Proved, proof
from pusher.repository.folder import Folder
from pusher.repository.store import Found
from pusher.wire import Code, Problem, WireError
from pusher.wire.channel import report_name, split_signed
from pusher.wire.report import REPORT_BYTES, Report, ReportReader

_Given = TypeVar("_Given")
_Found = TypeVar("_Found")
_AT_ONCE = 16
_PART = 50
_NEAR_S = 0.0001
"""Who reads a report in less did not wait for it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of one host: its report, or why there is none that counts (empty: it never sent one).

    `unread`: a place where its reports may lie did not answer, so there may be a later one.
    """

    name: str
    report: Report | None
    why: str = ""
    unread: bool = False


class _Contents(NamedTuple):
    """The reports of one host, wherever they lie. `problem`: no place answered; `unread`: one did not."""

    contents: list[bytes]
    problem: Problem | None
    unread: bool


class Reports(Protocol):
    """Where reports lie. Raises: Problem."""

    def read(self, name: str, *, most: int) -> Found | None:
        """A report by its name; None if there is none."""
        ...


def read_reports(
    repositories: Sequence[Reports],
    members: Sequence[Member],
    *,
    app: str,
    channel: str,
    proved: Proved | None = None,
) -> list[Heard]:
    """What each host of the inventory has reported, in its order. What `proved` knows is not verified again.

    Raises: Problem, if no repository answers.
    """
    proved = proved or Proved()
    found = _read_all(repositories, [report_name(app, member.name) for member in members])
    problems = [one.problem for one in found]
    if members and all(problems):
        raise problems[0]  # type: ignore[misc]  # none of them is None
    objects = [(member, content) for member, one in zip(members, found, strict=True) for content in one.contents]
    heard = iter(check_reports(objects, app=app, channel=channel, proved=proved))
    if members:
        proved.keep()
    return [
        _newest(member, one, [next(heard) for _ in one.contents])
        for member, one in zip(members, found, strict=True)
    ]


def check_reports(
    objects: Sequence[tuple[Member, bytes]], *, app: str, channel: str, proved: Proved
) -> list[Heard]:
    """The report in each object, if this host has signed it, and it is about it, the app and the channel."""
    proofs = [proof(content, key=member.key) for member, content in objects]
    unknown = [at for at, one in enumerate(proofs) if not proved.knows(one)]
    # A library verifies, without any waiting: a thread for each processor. The rest is Python's work, of which one
    # thread runs at a time: beside these threads it takes longer than after them.
    verified = _in_parts(lambda at: _is_signed(*objects[at]), unknown, threads=os.cpu_count() or 1)
    for at, is_signed_by_host in zip(unknown, verified, strict=True):
        if is_signed_by_host:
            proved.add(proofs[at])
    reader = ReportReader()
    return [
        _heard(member, content, app=app, channel=channel, signed=proved.knows(one), reader=reader)
        for (member, content), one in zip(objects, proofs, strict=True)
    ]


def _read_all(repositories: Sequence[Reports], names: Sequence[str]) -> list[_Contents]:
    """The objects of these names, in their order."""

    def read(name: str) -> _Contents:
        contents, problem, answered, unread = list[bytes](), None, False, False
        for repository in repositories:
            try:
                found = repository.read(name, most=REPORT_BYTES)
                answered = True
            except Problem as error:
                problem = error
                # What is too large to be a report was read all the same, and counts for nothing.
                unread = unread or error.code is not Code.LIMIT_EXCEEDED
                continue
            if found is not None:
                contents.append(found.content)
        return _Contents(contents, None if answered else problem, unread)

    # A disk of this machine keeps nobody waiting: threads would get in each other's way. One that is far does.
    few = names[:_PART] if all(isinstance(one, Folder) for one in repositories) else []
    began = time.perf_counter()
    found = [read(name) for name in few]
    near = bool(few) and time.perf_counter() - began < _NEAR_S * len(few)
    rest = names[len(few) :]
    return found + ([read(name) for name in rest] if near else _in_parts(read, rest, threads=_AT_ONCE))


def _in_parts(call: Callable[[_Given], _Found], given: Sequence[_Given], *, threads: int) -> list[_Found]:
    """What `call` returns for each, in order. In parts: to hand one over costs as much as to read it."""
    size = max(1, min(_PART, len(given) // threads))
    parts = (given[at : at + size] for at in range(0, len(given), size))
    with ThreadPoolExecutor(threads) as pool:
        return [one for part in pool.map(lambda part: [call(one) for one in part], parts) for one in part]


def _is_signed(member: Member, content: bytes) -> bool:
    try:
        document, signature = split_signed(content, most=REPORT_BYTES)
    except WireError:
        return False
    return is_signed(document, signature, key=member.key)


def _heard(member: Member, content: bytes, *, app: str, channel: str, signed: bool, reader: ReportReader) -> Heard:
    """What an object says of a host, which has `signed` it or not."""
    try:
        document, _ = split_signed(content, most=REPORT_BYTES)
        if not signed:
            return Heard(member.name, None, "its report is not signed with its key")
        report = reader.read(document)
    except WireError as error:
        return Heard(member.name, None, f"its report cannot be read: {error}")
    if (report.host, report.app) != (member.name, app):
        return Heard(member.name, None, f"its report is about {report.app} on {report.host}")
    if report.channel != channel:
        return Heard(member.name, None, f"it follows the channel {report.channel}")
    return Heard(member.name, report)


def _newest(member: Member, found: _Contents, heard: Sequence[Heard]) -> Heard:
    """The newest report of one host among what its objects say."""
    best = Heard(member.name, None, str(found.problem or ""))
    for one in heard:
        newer = one.report and (best.report is None or one.report.created > best.report.created)
        if newer or (best.report is None and one.report is None):
            best = one
    return replace(best, unread=True) if found.unread else best


def is_silent(heard: Heard, *, now: int, silent_s: float) -> bool:
    """Whether a host has reported nothing for so long. `now` in ms since 1970."""
    return heard.report is None or now - heard.report.created > silent_s * 1000
