"""What a subscribed app does about a channel: accept a document, and decide what follows from it.

Invariant: values in, a decision out; no clock, no disk, no network. Nothing older than what was accepted, nothing
unsigned, nothing while the brake is set, and nothing against what a person did on this host since. The rules of
`decide`, in order, for a host `web1` with v2 live and a document that wants v3; the first that fits:

1. No document that can be trusted: nothing begins. Expired: `stale`, and nothing begins.
2. A deployment runs: `waiting` for its turn. What is live may be taken back until it has ended.
3. v3 is live: `current`.
4. The channel is paused, or the brake is set: `waiting`.
5. The wave of `web1` is closed: `waiting`. With nothing live, the host goes on with what the document has as
   `before`.
6. Outside of the maintenance window: `waiting`.
7. v3 failed here since the document named it, with this attempt: `failed`.
8. A person made another release live here since: `held`.
9. Something newer than v3 was accepted: back to v3, if it is kept here; else `ahead`.
10. The host's part of `spread_s` is not over: `waiting`. Else: fetch v3.

A kept release is returned to only if it is older than what was accepted. A newer one is deployed anew, for a
rollback would withdraw the release that it leaves.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agent.core.trust import AHEAD_MOST_MS
from pusher.wire import Code, Refused, format_timestamp
from pusher.wire.channel import BundleObject, Channel, Target, spread_of, wave_of

CHANCES = 3
"""How often a release is tried whose deployments ended for a reason that may pass: power, room, a bundle in
parts.
"""

PASSING = frozenset({Code.INTERRUPTED, Code.BUNDLE_INCOMPLETE, Code.DISK_FULL, Code.UPLOAD_BROKEN})


class State(StrEnum):
    """How a host stands to its channel."""

    CURRENT = "current"  # what the channel wants is live
    WAITING = "waiting"  # for a turn, a wave, a window, ...
    FETCHING = "fetching"
    DEPLOYING = "deploying"
    FAILED = "failed"  # what the channel wants was tried here and taken back
    HELD = "held"  # a person made something else live
    AHEAD = "ahead"  # something newer was accepted, and what the channel wants is not kept
    REFUSED = "refused"  # the document or the bundle is not one that may be used
    STALE = "stale"  # the document has expired
    UNREACHABLE = "unreachable"  # no repository answers


class Awaited(StrEnum):
    """What a waiting host waits for."""

    TURN = "turn"
    PAUSE = "pause"
    BRAKE = "brake"
    WAVE = "wave"
    WINDOW = "window"
    SPREAD = "spread"


@dataclass(frozen=True, slots=True)
class TrustedChannel:
    """A channel document whose signature holds. `digest` is the SHA-256 of its bytes; `signer` made it."""

    document: Channel
    digest: str
    signer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The newest document that was accepted for an app and channel, as the journal keeps it. Times in ms.

    `seen` is when this host first saw a document by which it may begin: of this release and attempt, going, with
    its wave open; 0: none yet. `after` is the newest deployment before its release and attempt were first seen:
    what people did after that counts.
    """

    created: int
    digest: str
    manifest: str
    attempt: int
    seen: int
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A deployment that has ended. `code` is that of its `problem`; `person`: not by the channel."""

    manifest: str
    done: bool
    person: bool
    code: str = ""
    problem: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of the app here. Releases are named by the SHA-256 of their manifest.

    `live` is the live release, None without one, `release` its id, and `version` what the journal calls it; `kept`
    are the ids of all releases on disk.
    `known` were deployed here before. `past` are the deployments after `mark.after`, oldest first.
    """

    host: str
    mark: Mark | None
    live: str | None
    release: str | None
    kept: Mapping[str, str]
    newest_accepted: int | None
    known: Collection[str] = ()
    past: Sequence[Past] = ()
    deploying: bool = False
    braked: bool = False
    in_window: bool = True
    version: str = ""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get one of the bundles, the first choice first, and deploy it."""

    target: Target
    bundles: tuple[BundleObject, ...]


@dataclass(frozen=True, slots=True)
class Return:
    """Roll back to a release that is kept, as long as `leaving` is live."""

    to: str
    leaving: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The state of the host, what it waits for, and what it begins now; None: nothing."""

    state: State
    awaited: Awaited | None = None
    action: Fetch | Return | None = None


def accept(
    trusted: TrustedChannel,
    *,
    app: str,
    channel: str,
    host: str,
    mark: Mark | None,
    now: int,
    newest_deployment: str,
) -> Mark:
    """The mark of a document that may be used here, from now on the newest one. `now` in ms since 1970.

    A document that has expired is accepted: it is known to be the newest one, and nothing begins by it.
    Raises: Refused (wrong_app, wrong_channel, from_the_future, older_than_accepted, channel_forked).
    """
    document = trusted.document
    _check_address(document, app=app, channel=channel)
    if document.created > now + AHEAD_MOST_MS:
        raise Refused(
            Code.FROM_THE_FUTURE,
            "The channel document was signed in the future",
            why=f"it says {format_timestamp(document.created)}; here it is {format_timestamp(now)}",
            hint="Set the clock of this host, or of the machine that publishes",
        )
    if mark is not None and document.created < mark.created:
        raise Refused(
            Code.OLDER_THAN_ACCEPTED,
            "The channel document is older than one that was accepted before",
            why=f"it was signed at {format_timestamp(document.created)}, the newest accepted one "
            f"at {format_timestamp(mark.created)}",
            hint="Wait until this repository has caught up. If it was restored from a backup: publish again",
        )
    if mark is not None and document.created == mark.created:
        if trusted.digest != mark.digest:
            raise Refused(
                Code.CHANNEL_FORKED,
                "There are two channel documents of the same time",
                why=f"both were signed at {format_timestamp(document.created)}, and they differ",
                hint="Publish again. If only one person may publish: find out who has the key",
            )
        return mark
    wanted = document.target.release.manifest, document.rollout.attempt
    same = mark is not None and wanted == (mark.manifest, mark.attempt)
    may_begin = document.state == "going" and _is_open(document, host)
    return Mark(
        created=document.created,
        digest=trusted.digest,
        manifest=wanted[0],
        attempt=wanted[1],
        # Not with each document: a channel that is renewed more often than its spread is long would begin nothing.
        seen=(mark.seen if mark is not None and same and mark.seen else now) if may_begin else 0,
        after=mark.after if mark is not None and same else newest_deployment,
    )


def decide(trusted: TrustedChannel | None, facts: Facts, now: int) -> Decision:
    """What the host does now (ms since 1970), by the rules in the docstring of this module.

    Call it again with `braked` before the action is carried out.
    """
    if trusted is None or facts.mark is None or facts.mark.digest != trusted.digest:
        return Decision(State.REFUSED)
    document = trusted.document
    if now >= document.expires:
        return Decision(State.STALE)
    target, manifest = document.target, document.target.release.manifest
    if facts.deploying:
        return _wait(Awaited.TURN)
    if facts.live == manifest:
        return Decision(State.CURRENT)
    if document.state == "paused":
        return _wait(Awaited.PAUSE)
    if facts.braked:
        return _wait(Awaited.BRAKE)
    if not _is_open(document, facts.host):
        if facts.live is not None or document.before is None:
            return _wait(Awaited.WAVE)
        target = document.before
    if facts.live is not None and not facts.in_window:
        return _wait(Awaited.WINDOW)
    wanted = target.release
    if _failed(wanted.manifest, facts.past):
        return Decision(State.FAILED)
    if _held(facts.past):
        return Decision(State.HELD)
    if not _is_fresh(target, facts):
        to = facts.kept.get(wanted.manifest)
        if to is None:
            return Decision(State.AHEAD)
        return Decision(State.DEPLOYING, action=Return(to, facts.release))
    begins = facts.mark.seen + spread_of(document.rollout, manifest=manifest, host=facts.host) * 1000
    # A clock that was set back must not make it wait for longer than its part.
    if facts.live is not None and facts.mark.seen <= now < begins:
        return _wait(Awaited.SPREAD)
    return Decision(State.FETCHING, action=Fetch(target, _bundles(target, facts)))


def spread_left(trusted: TrustedChannel, mark: Mark, *, host: str, now: int) -> float:
    """How many seconds are left of the host's part of the spread."""
    document = trusted.document
    part = spread_of(document.rollout, manifest=document.target.release.manifest, host=host)
    return max(0.0, part - max(0, now - mark.seen) / 1000)


def _is_open(document: Channel, host: str) -> bool:
    """Whether the wave of a host is open."""
    wave = wave_of(document.rollout, manifest=document.target.release.manifest, host=host)
    return wave is not None and wave <= document.rollout.open


def _check_address(document: Channel, *, app: str, channel: str) -> None:
    if document.app != app:
        raise Refused(
            Code.WRONG_APP,
            f"The channel document is not for {app!r}",
            why=f"it was signed for {document.app!r}",
            hint="Check `repository` in [subscribe] of the app's file",
        )
    if document.channel != channel:
        raise Refused(
            Code.WRONG_CHANNEL,
            f"The channel document is not for the channel {channel!r}",
            why=f"it was signed for {document.channel!r}",
            hint="Check `channel` in [subscribe] of the app's file",
        )


def _wait(awaited: Awaited) -> Decision:
    return Decision(State.WAITING, awaited)


def _failed(manifest: str, past: Sequence[Past]) -> bool:
    """Whether the release was tried often enough since the document named it with this attempt."""
    failures = [one for one in past if one.manifest == manifest and not one.done]
    return len(failures) >= CHANCES or any(one.code not in PASSING for one in failures)


def _held(past: Sequence[Past]) -> bool:
    """Whether a person, and not the channel, decided last which release is live."""
    done = [one for one in past if one.done]
    return bool(done) and done[-1].person


def _is_fresh(target: Target, facts: Facts) -> bool:
    """Whether a deployment of the release would be accepted: newer than anything before, or the newest once
    more.
    """
    newest, created = facts.newest_accepted, target.release.created
    return newest is None or created > newest or (created == newest and target.release.manifest in facts.known)


def _bundles(target: Target, facts: Facts) -> tuple[BundleObject, ...]:
    """The bundles that can be used here, the smallest first; only the full one after one that lacked content."""
    manifest = target.release.manifest
    lacked = any(one.manifest == manifest and one.code == Code.BUNDLE_INCOMPLETE for one in facts.past)
    usable = [one for one in target.bundles if not one.base or (one.base in facts.kept and not lacked)]
    return tuple(sorted(usable, key=lambda one: (one.size, bool(one.base))))
