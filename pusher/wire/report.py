"""A host's report: how it stands to a channel, signed by the host's own key.

Invariant: it has one spelling. It says what a host found, and nothing follows from it on another host but that
no more of them begin. Format: docs/reference/channel-format.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from pusher.wire.channel import check_channel, check_host
from pusher.wire.text import (
    WireError,
    canonical,
    check_app,
    check_sha256,
    check_version,
    format_timestamp,
    parse_object,
    parse_timestamp,
    take,
    take_count,
)

REPORT_SCHEMA = 1
REPORT_NAMESPACE = "pusher-report"
REPORT_BYTES = 16 * 1024
"""The largest report that is read, signature included."""

STATES = (
    *("current", "waiting", "fetching", "deploying"),
    *("failed", "held", "ahead", "refused", "stale", "unreachable"),
)
"""How a host can stand to its channel."""

_TEXT_MOST = 500
_LABELS_MOST = 32
_PROBLEM = ("code", "detail", "hint", "title")


@dataclass(frozen=True, slots=True)
class Named:
    """A release: the SHA-256 of its manifest, and its version."""

    manifest: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How one app on one host stands to its channel at `created` (ms since 1970).

    `signed` is the `created` of the channel document that counts there, 0 without one, and `attempt` its attempt.
    `problem` has the members `code`, `title`, `detail` and `hint` of a problem document, as far as it has them.
    """

    app: str
    channel: str
    host: str
    created: int
    state: str
    awaited: str = ""
    signed: int = 0
    attempt: int = 0
    live: Named | None = None
    wanted: Named | None = None
    problem: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    agent: str = ""

    def to_bytes(self) -> bytes:
        """Canonical JSON, without newline and signature. Texts that are too long are cut."""
        members: dict[str, Any] = {
            "schema": REPORT_SCHEMA,
            "app": self.app,
            "channel": self.channel,
            "host": self.host,
            "created": format_timestamp(self.created),
            "state": self.state,
            "awaited": self.awaited,
            "signed": format_timestamp(self.signed),
            "attempt": self.attempt,
            "agent": self.agent[:_TEXT_MOST],
            "labels": {key: value[:_TEXT_MOST] for key, value in self.labels.items()},
            "problem": {key: self.problem[key][:_TEXT_MOST] for key in _PROBLEM if self.problem.get(key)},
        }
        for name, release in (("live", self.live), ("wanted", self.wanted)):
            if release is not None:
                members[name] = {"manifest": release.manifest, "version": release.version}
        return canonical(members)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The report in `raw`. Raises: WireError, for anything but its canonical form."""
        members = parse_object(raw, "the report")
        _check(members)
        report = cls(
            app=members["app"],
            channel=members["channel"],
            host=members["host"],
            created=parse_timestamp(members["created"]),
            state=members["state"],
            awaited=members["awaited"][:_TEXT_MOST],
            signed=parse_timestamp(members["signed"]),
            attempt=members["attempt"],
            live=_named(members.get("live")),
            wanted=_named(members.get("wanted")),
            problem=members["problem"],
            labels=members["labels"],
            agent=members["agent"],
        )
        if report.to_bytes() != raw:
            raise WireError("the report is not in canonical form, or has members that schema 1 lacks")
        return report


class ReportReader:
    """Reads the reports of a fleet as `Report.from_bytes` does, in a fifth of the time where they are alike.

    Invariant: the time and the host of each report are checked. What is before and after them is checked once for
    all reports in which it is the same. No parser is needed to find them: the members before them are texts and
    numbers, and in a text a quotation mark comes after a backslash, never after a comma.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Report] = {}

    def read(self, raw: bytes) -> Report:
        """The report in `raw`. Raises: WireError, for anything but its canonical form."""
        before, _, rest = raw.partition(b',"created":"')
        created, _, rest = rest.partition(b'","host":"')
        host, _, after = rest.partition(b'"')
        known = self._known.get((before, after))
        if known is None:
            self._known[before, after] = known = Report.from_bytes(raw)
            return known
        return replace(known, created=parse_timestamp(_ascii(created)), host=check_host(_ascii(host)))


def _check(members: Mapping[str, Any]) -> None:
    """That every member is there, and of its kind. Raises: WireError."""
    schema = members.get("schema")
    if schema != REPORT_SCHEMA or isinstance(schema, bool):
        raise WireError(f"the report's schema is {schema!r}; this version reads {REPORT_SCHEMA}")
    state = take(members, "state", str)
    if state not in STATES:
        raise WireError(f"the report's state is {state[:80]!r}")
    _check_texts(members, "problem")
    if len(labels := _check_texts(members, "labels")) > _LABELS_MOST:
        raise WireError(f"the report has {len(labels)} labels; the limit is {_LABELS_MOST}")
    check_app(take(members, "app", str))
    check_channel(take(members, "channel", str))
    check_host(take(members, "host", str))
    for name in ("created", "signed", "awaited", "agent"):
        take(members, name, str)
    take_count(members, "attempt")
    for name in ("live", "wanted"):
        if name in members:
            release = take(members, name, dict)
            check_sha256(take(release, "manifest", str))
            check_version(take(release, "version", str))


def _check_texts(members: Mapping[str, Any], name: str) -> dict[str, str]:
    found = take(members, name, dict)
    if not all(isinstance(value, str) for value in found.values()):
        raise WireError(f"a member of the report's {name} is no text")
    return found


def _named(release: Mapping[str, str] | None) -> Named | None:
    return None if release is None else Named(release["manifest"], release["version"])


def _ascii(raw: bytes) -> str:
    return raw.decode("ascii", "replace")  # what stands for other bytes is in no time and no name
