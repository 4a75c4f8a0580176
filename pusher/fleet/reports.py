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
from pusher.fleet.proved import Proved
from pusher.repository.folder import Folder
from pusher.repository.store import Found
from pusher.wire import Code, Problem, WireError
from pusher.wire.channel import report_name, split_signed
from pusher.wire.report import REPORT_BYTES, Report

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

    def read(member: Member) -> _Contents:
        contents, problem, answered, unread = list[bytes](), None, False, False
        for repository in repositories:
            try:
                found = repository.read(report_name(app, member.name), most=REPORT_BYTES)
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
    few = members[:_PART] if all(isinstance(one, Folder) for one in repositories) else []
    began = time.perf_counter()
    found = [read(member) for member in few]
    near = bool(few) and time.perf_counter() - began < _NEAR_S * len(few)
    found += _in_parts(read, members[len(few) :], threads=1 if near else _AT_ONCE)
    problems = [one.problem for one in found]
    if members and all(problems):
        raise problems[0]  # type: ignore[misc]  # none of them is None

    def check(one: tuple[Member, _Contents]) -> Heard:
        return _newest(*one, app=app, channel=channel, proved=proved)

    # To verify is work, without any waiting: more threads than processors get in each other's way.
    heard = _in_parts(check, list(zip(members, found, strict=True)), threads=os.cpu_count() or 1)
    if members:
        proved.keep()
    return heard


def check_report(content: bytes, member: Member, *, app: str, channel: str, proved: Proved | None = None) -> Heard:
    """The report in an object, if this host has signed it, and it is about it, the app and the channel."""
    try:
        document, signature = split_signed(content, most=REPORT_BYTES)
        if proved is not None and proved.knows(content, key=member.key):
            report = Report.from_checked(document)
        elif not is_signed(document, signature, key=member.key):
            return Heard(member.name, None, "its report is not signed with its key")
        else:
            report = Report.from_bytes(document)
            if proved is not None:
                proved.add(content, key=member.key)
    except WireError as error:
        return Heard(member.name, None, f"its report cannot be read: {error}")
    if (report.host, report.app) != (member.name, app):
        return Heard(member.name, None, f"its report is about {report.app} on {report.host}")
    if report.channel != channel:
        return Heard(member.name, None, f"it follows the channel {report.channel}")
    return Heard(member.name, report)


def _in_parts(call: Callable[[_Given], _Found], given: Sequence[_Given], *, threads: int) -> list[_Found]:
    """What `call` returns for each, in order. In parts: to hand one over costs as much as to read it."""
    size = max(1, min(_PART, len(given) // threads))
    parts = (given[at : at + size] for at in range(0, len(given), size))
    with ThreadPoolExecutor(threads) as pool:
        return [one for part in pool.map(lambda part: [call(one) for one in part], parts) for one in part]


def _newest(member: Member, found: _Contents, *, app: str, channel: str, proved: Proved) -> Heard:
    """The newest report of one host among what was found of it."""
    best = Heard(member.name, None, str(found.problem or ""))
    for content in found.contents:
        heard = check_report(content, member, app=app, channel=channel, proved=proved)
        newer = heard.report and (best.report is None or heard.report.created > best.report.created)
        if newer or (best.report is None and heard.report is None):
            best = heard
    return replace(best, unread=found.unread)


def is_silent(heard: Heard, *, now: int, silent_s: float) -> bool:
    """Whether a host has reported nothing for so long. `now` in ms since 1970."""
    return heard.report is None or now - heard.report.created > silent_s * 1000
