"""The channel document: which release the hosts of a channel take, and in which waves.

Invariant: it is small, signed as a whole, and has one spelling. Document and signature travel in one object,
because two files could be mixed. Format: docs/reference/channel-format.md.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

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

CHANNEL_SCHEMA = 1
CHANNEL_NAMESPACE = "pusher-channel"
CHANNEL_BYTES = 64 * 1024
"""The largest object that is read, signature included."""

WAVES_MOST = 16
BUNDLES_MOST = 16
_SECONDS_MOST = 30 * 24 * 3600
_COUNT_MOST = 1_000_000
_SCALE = 10_000
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", re.ASCII)
_CHANNEL = re.compile(r"[a-z][a-z0-9-]{0,29}[a-z0-9]", re.ASCII)

Wave = tuple[str, ...] | int
"""The hosts of a wave by name, or the part of all hosts that it reaches, in percent."""
State = Literal["going", "paused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRelease:
    """A release as a channel names it: the SHA-256 of its manifest, and for people its version and `created`
    (ms).
    """

    manifest: str
    version: str
    created: int


@dataclass(frozen=True, slots=True)
class BundleObject:
    """A bundle in the repository. `base` is the manifest of the release whose content it lacks; empty: it is
    full.
    """

    base: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Target:
    """A release, and the bundles that bring it."""

    release: ChannelRelease
    bundles: tuple[BundleObject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How a release spreads: the waves up to number `open` (from 1) may take it.

    A higher `attempt` lets hosts try a release once more that failed there. Times in seconds: the hosts of a
    wave begin within `spread_s`; a host that reports nothing for `silent_s` is silent. After `max_failed` failed
    hosts no other one begins.
    """

    attempt: int = 1
    open: int = 1
    waves: tuple[Wave, ...] = (100,)
    spread_s: int = 0
    max_failed: int = 1
    silent_s: int = 1_800


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One state of a channel. `created` (ms since 1970, UTC) is its sequence number.

    `before` is what a host with nothing live takes while its wave is closed.
    """

    app: str
    channel: str
    created: int
    expires: int
    target: Target
    state: State = "going"
    before: Target | None = None
    rollout: Rollout = field(default_factory=Rollout)

    def to_bytes(self) -> bytes:
        """Canonical JSON, without newline and signature."""
        members: dict[str, Any] = {
            "schema": CHANNEL_SCHEMA,
            "app": self.app,
            "channel": self.channel,
            "created": format_timestamp(self.created),
            "expires": format_timestamp(self.expires),
            "state": self.state,
            **_target_members(self.target),
            "rollout": {
                "attempt": self.rollout.attempt,
                "open": self.rollout.open,
                "waves": [wave if isinstance(wave, int) else list(wave) for wave in self.rollout.waves],
                "spread_s": self.rollout.spread_s,
                "max_failed": self.rollout.max_failed,
                "silent_s": self.rollout.silent_s,
            },
        }
        if self.before is not None:
            members["before"] = _target_members(self.before)
        return canonical(members)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The document in `raw`. Raises: WireError, for anything but its canonical form."""
        members = parse_object(raw, "the channel document")
        schema = members.get("schema")
        if schema != CHANNEL_SCHEMA or isinstance(schema, bool):
            raise WireError(f"the channel document's schema is {schema!r}; this version reads {CHANNEL_SCHEMA}")
        document = cls(
            app=check_app(take(members, "app", str)),
            channel=check_channel(take(members, "channel", str)),
            created=parse_timestamp(take(members, "created", str)),
            expires=parse_timestamp(take(members, "expires", str)),
            state=_state(take(members, "state", str)),
            target=_target(members),
            before=_target(take(members, "before", dict)) if "before" in members else None,
            rollout=_rollout(take(members, "rollout", dict)),
        )
        if document.to_bytes() != raw:
            raise WireError("the channel document is not in canonical form, or has members that schema 1 lacks")
        return document


def check_channel(name: str) -> str:
    """`name` itself, if it is a valid name of a channel. Raises: WireError."""
    if not _CHANNEL.fullmatch(name):
        raise WireError(f"{name[:80]!r} is not a channel's name: 2 to 31 of a-z, 0-9 and -, a letter first")
    return name


def check_host(name: str) -> str:
    """`name` itself, if it can be a host's name in waves, reports and paths. Raises: WireError."""
    if not _HOST.fullmatch(name) or ".." in name:
        raise WireError(f"{name[:80]!r} is not a host's name: letters, digits, dots, _ and -")
    return name


def join_signed(document: bytes, signature: bytes) -> bytes:
    """One object of a document and its armored signature."""
    return document + b"\n" + signature


def split_signed(raw: bytes, *, most: int = CHANNEL_BYTES) -> tuple[bytes, bytes]:
    """The document and the signature in an object. Raises: WireError, if it is too large or has no signature.

    Canonical JSON has no newline, so the first one ends the document.
    """
    if len(raw) > most:
        raise WireError(f"it has {len(raw)} bytes or more; the limit is {most}")
    document, newline, signature = raw.partition(b"\n")
    if not newline or not signature:
        raise WireError("it has no signature")
    return document, signature


def share(manifest: str, host: str) -> int:
    """Where a host stands among all hosts for this release: a whole number from 0 to 9,999, spread evenly.

    Each release deals the hosts anew, so that it is not always the same ones that go first.
    """
    digest = hashlib.sha256(f"{manifest} {host}".encode()).digest()
    return int.from_bytes(digest[:8], "big") * _SCALE >> 64


def wave_of(rollout: Rollout, *, manifest: str, host: str) -> int | None:
    """The number of the first wave that contains a host, from 1; None if none does."""
    place = share(manifest, host)
    for number, wave in enumerate(rollout.waves, 1):
        if place * 100 < wave * _SCALE if isinstance(wave, int) else host in wave:
            return number
    return None


def spread_of(rollout: Rollout, *, manifest: str, host: str) -> float:
    """How many seconds after its wave has opened a host begins."""
    # Not `share` itself: the hosts of a wave of 10 % all have a share below 1,000.
    return rollout.spread_s * share(f"spread {manifest}", host) / _SCALE


def object_name(sha256: str) -> str:
    """Where a bundle lies in a repository."""
    return f"bundles/{sha256}.tar.zst"


def channel_name(app: str, channel: str) -> str:
    """Where a channel document lies in a repository."""
    return f"channels/{app}/{channel}"


def brake_name(app: str, channel: str) -> str:
    """The object whose existence keeps every host of a channel from beginning."""
    return f"brakes/{app}/{channel}"


def bell_name(app: str, channel: str) -> str:
    """Where a question is answered when the channel has changed, or after a time."""
    return f"bells/{app}/{channel}"


def report_name(app: str, host: str) -> str:
    """Where a host's report lies in a repository."""
    return f"reports/{app}/{host}"


def subject(name: str) -> str:
    """The subject of NATS for a bell or a report, by its name in a repository. Raises: WireError.

    Reports are keys of the bucket `reports`: `$KV.reports.<app>.<host>`.
    """
    kind, _, rest = name.partition("/")
    found = {"bells": "pusher.bells", "reports": "$KV.reports"}.get(kind)
    words = rest.replace("/", ".").split(".")
    are_plain = all(re.fullmatch(r"[A-Za-z0-9_-]+", one, re.ASCII) for one in words)
    if found is None or len(words) < 2 or not are_plain:
        raise WireError(f"{name[:200]!r} has no subject")
    return ".".join([found, *words])


def _state(text: str) -> State:
    if text not in ("going", "paused"):
        raise WireError(f"the channel's state is {text[:80]!r}; it is going or paused")
    return "paused" if text == "paused" else "going"


def _target_members(target: Target) -> dict[str, Any]:
    release = target.release
    return {
        "release": {
            "manifest": release.manifest,
            "version": release.version,
            "created": format_timestamp(release.created),
        },
        "bundles": [{"from": one.base, "sha256": one.sha256, "size": one.size} for one in target.bundles],
    }


def _target(members: dict[str, Any]) -> Target:
    release, bundles = take(members, "release", dict), take(members, "bundles", list)
    if not 0 < len(bundles) <= BUNDLES_MOST:
        raise WireError(f"a release has {len(bundles)} bundles; it needs 1 to {BUNDLES_MOST}")
    found = tuple(_bundle(one) for one in bundles)
    if [one.base for one in found].count("") != 1 or len({one.base for one in found}) != len(found):
        raise WireError("a release needs one full bundle, and at most one for each other release")
    return Target(
        ChannelRelease(
            manifest=check_sha256(take(release, "manifest", str)),
            version=check_version(take(release, "version", str)),
            created=parse_timestamp(take(release, "created", str)),
        ),
        found,
    )


def _bundle(one: object) -> BundleObject:
    if not isinstance(one, dict):
        raise WireError("a bundle of the channel is not an object")
    base = take(one, "from", str)
    return BundleObject(
        base and check_sha256(base), check_sha256(take(one, "sha256", str)), take_count(one, "size")
    )


def _rollout(members: dict[str, Any]) -> Rollout:
    found = Rollout(
        attempt=_count(members, "attempt", least=1),
        open=_count(members, "open", least=1),
        waves=check_waves([tuple(one) if isinstance(one, list) else one for one in take(members, "waves", list)]),
        spread_s=_count(members, "spread_s", most=_SECONDS_MOST),
        max_failed=_count(members, "max_failed", least=1),
        silent_s=_count(members, "silent_s", least=1, most=_SECONDS_MOST),
    )
    if found.open > len(found.waves):
        raise WireError(f"wave {found.open} is open; there are {len(found.waves)}")
    return found


def check_waves(waves: Sequence[object]) -> tuple[Wave, ...]:
    """The waves themselves, if there is at least one, and each names hosts, or a larger part than those before.

    Raises: WireError.
    """
    if not 0 < len(waves) <= WAVES_MOST:
        raise WireError(f"there are {len(waves)} waves; there must be 1 to {WAVES_MOST}")
    found: list[Wave] = []
    part = 0
    for wave in waves:
        if isinstance(wave, int) and not isinstance(wave, bool) and part < wave <= 100:
            part = wave
            found.append(wave)
        elif isinstance(wave, tuple) and wave and all(isinstance(one, str) for one in wave):
            found.append(tuple(check_host(one) for one in wave))
        else:
            raise WireError(f"{wave!r:.80} is no wave: names of hosts, or a percentage above those before, to 100")
    return tuple(found)


def _count(members: dict[str, Any], key: str, *, least: int = 0, most: int = _COUNT_MOST) -> int:
    value = take_count(members, key)
    if not least <= value <= most:
        raise WireError(f"{key!r} is {value}; it must be from {least} to {most}")
    return value
