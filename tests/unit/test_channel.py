"""What a subscribed app does: never older, never unsigned, never while braked, never against a person."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.channel import (
    CHANCES,
    Awaited,
    Decision,
    Facts,
    Fetch,
    Mark,
    Past,
    Return,
    State,
    TrustedChannel,
    accept,
    decide,
    spread_left,
)
from pusher.wire import Code, Refused
from pusher.wire.channel import BundleObject, Channel, ChannelRelease, Rollout, Target

NOW = 1_795_399_255_000
HOUR = 3_600_000
V1, V2, V3, V4 = ("01" * 32, "02" * 32, "03" * 32, "04" * 32)
CREATED = {V1: NOW - 4 * HOUR, V2: NOW - 3 * HOUR, V3: NOW - 2 * HOUR, V4: NOW - HOUR}
FULL, FROM_V2 = BundleObject("", "f0" * 32, 1000), BundleObject(V2, "f2" * 32, 10)


def target(manifest: str) -> Target:
    return Target(ChannelRelease(manifest=manifest, version="v", created=CREATED[manifest]), (FULL, FROM_V2))


def channel(wanted: str = V3, **members: Any) -> TrustedChannel:
    rollout = members.pop("rollout", Rollout())
    facts = {"created": NOW - HOUR, "expires": NOW + HOUR, "rollout": rollout} | members
    return TrustedChannel(
        Channel(**({"app": "shop", "channel": "stable", "target": target(wanted)} | facts)), "dd" * 32, "ci@x"
    )


def mark(**members: Any) -> Mark:
    facts = {"created": NOW - HOUR, "digest": "dd" * 32, "manifest": V3, "attempt": 1, "seen": NOW - 60_000}
    return Mark(**(facts | members))


def host(**members: Any) -> Facts:
    """A host with v2 live, and v1 kept."""
    facts: dict[str, Any] = {
        "host": "web1",
        "mark": mark(),
        "live": V2,
        "release": "r2",
        "kept": {V2: "r2", V1: "r1"},
        "newest_accepted": CREATED[V2],
        "known": {V1, V2},
    }
    return Facts(**(facts | members))


def failed(manifest: str = V3, code: str = Code.APP_UNHEALTHY, **members: Any) -> Past:
    return Past(**({"manifest": manifest, "done": False, "person": False, "code": code} | members))


PERSON = Past(manifest=V2, done=True, person=True)
CLOSED = Rollout(waves=(("web2",), 100))
NOTHING = {"live": None, "release": None, "kept": {}, "newest_accepted": None, "known": frozenset[str]()}

CASES: dict[str, tuple[TrustedChannel | None, Facts, Decision]] = {
    "a document that cannot be trusted begins nothing": (None, host(), Decision(State.REFUSED)),
    "a document that was not accepted begins nothing": (channel(), host(mark=None), Decision(State.REFUSED)),
    "a document that is not the newest begins nothing": (
        channel(),
        host(mark=mark(digest="ee" * 32)),
        Decision(State.REFUSED),
    ),
    "an expired document begins nothing": (channel(expires=NOW), host(), Decision(State.STALE)),
    "what is wanted is live": (channel(V2), host(), Decision(State.CURRENT)),
    "what is wanted is live, and not confirmed yet": (
        channel(V2),
        host(deploying=True),
        Decision(State.WAITING, Awaited.TURN),
    ),
    "a deployment runs": (channel(), host(deploying=True), Decision(State.WAITING, Awaited.TURN)),
    "the channel is paused": (channel(state="paused"), host(), Decision(State.WAITING, Awaited.PAUSE)),
    "the brake is set": (channel(), host(braked=True), Decision(State.WAITING, Awaited.BRAKE)),
    "its wave is closed": (channel(rollout=CLOSED), host(), Decision(State.WAITING, Awaited.WAVE)),
    "it is in no wave": (
        channel(rollout=Rollout(waves=(("web2",),))),
        host(),
        Decision(State.WAITING, Awaited.WAVE),
    ),
    "nothing is live, and there was nothing before": (
        channel(rollout=CLOSED),
        host(**NOTHING),
        Decision(State.WAITING, Awaited.WAVE),
    ),
    "nothing is live: the host takes what was before": (
        channel(rollout=CLOSED, before=target(V2)),
        host(**NOTHING),
        Decision(State.FETCHING, action=Fetch(target(V2), (FULL,))),
    ),
    "outside of its window": (channel(), host(in_window=False), Decision(State.WAITING, Awaited.WINDOW)),
    "a host with nothing live needs no window": (
        channel(),
        host(**NOTHING, in_window=False),
        Decision(State.FETCHING, action=Fetch(target(V3), (FULL,))),
    ),
    "it failed here": (channel(), host(past=[failed()]), Decision(State.FAILED)),
    "another one failed here": (
        channel(),
        host(past=[failed(V4)]),
        Decision(State.FETCHING, action=Fetch(target(V3), (FROM_V2, FULL))),
    ),
    "power failed during the deployment": (
        channel(),
        host(past=[failed(code=Code.INTERRUPTED)]),
        Decision(State.FETCHING, action=Fetch(target(V3), (FROM_V2, FULL))),
    ),
    "power failed each time": (
        channel(),
        host(past=[failed(code=Code.INTERRUPTED)] * CHANCES),
        Decision(State.FAILED),
    ),
    "a bundle lacked something: the full one is next": (
        channel(),
        host(past=[failed(code=Code.BUNDLE_INCOMPLETE)]),
        Decision(State.FETCHING, action=Fetch(target(V3), (FULL,))),
    ),
    "a person rolled back": (channel(), host(past=[PERSON]), Decision(State.HELD)),
    "a person tried, and failed": (
        channel(),
        host(past=[failed(V4, person=True)]),
        Decision(State.FETCHING, action=Fetch(target(V3), (FROM_V2, FULL))),
    ),
    "the channel goes back, and the release is kept": (
        channel(V1),
        host(mark=mark(manifest=V1)),
        Decision(State.DEPLOYING, action=Return("r1", "r2")),
    ),
    "the channel goes back, and the release is gone": (
        channel(V1),
        host(mark=mark(manifest=V1), kept={V2: "r2"}),
        Decision(State.AHEAD),
    ),
    "the newest release once more is deployed anew": (
        channel(),
        host(newest_accepted=CREATED[V3], known={V3}),
        Decision(State.FETCHING, action=Fetch(target(V3), (FROM_V2, FULL))),
    ),
    "another release of the same moment is not fresh": (
        channel(),
        host(newest_accepted=CREATED[V3]),
        Decision(State.AHEAD),
    ),
    "the bundle for the smallest transfer comes first": (
        channel(),
        host(),
        Decision(State.FETCHING, action=Fetch(target(V3), (FROM_V2, FULL))),
    ),
    "without its base, a bundle cannot be used": (
        channel(),
        host(kept={}),
        Decision(State.FETCHING, action=Fetch(target(V3), (FULL,))),
    ),
    "its part of the spread is not over": (
        channel(rollout=Rollout(spread_s=10_000)),
        host(mark=mark(seen=NOW)),
        Decision(State.WAITING, Awaited.SPREAD),
    ),
    "its part of the spread is over": (
        channel(rollout=Rollout(spread_s=10_000)),
        host(mark=mark(seen=NOW - 10_000_000)),
        Decision(State.FETCHING, action=Fetch(target(V3), (FROM_V2, FULL))),
    ),
    "a clock that was set back makes nobody wait": (
        channel(rollout=Rollout(spread_s=10_000)),
        host(mark=mark(seen=NOW + HOUR)),
        Decision(State.FETCHING, action=Fetch(target(V3), (FROM_V2, FULL))),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_first_rule_that_fits_decides(case: str) -> None:
    trusted, facts, expected = CASES[case]
    assert decide(trusted, facts, NOW) == expected


MANIFESTS = st.sampled_from([V1, V2, V3, V4])
PASTS = st.builds(
    Past, manifest=MANIFESTS, done=st.booleans(), person=st.booleans(), code=st.sampled_from(["", *Code])
)
FACTS = st.builds(
    Facts,
    host=st.sampled_from(["web1", "web2"]),
    mark=st.none()
    | st.builds(
        Mark,
        created=st.integers(NOW - 2 * HOUR, NOW),
        digest=st.sampled_from(["dd" * 32, "ee" * 32]),
        manifest=MANIFESTS,
        attempt=st.integers(1, 2),
        seen=st.integers(NOW - HOUR, NOW + HOUR),
    ),
    live=st.none() | MANIFESTS,
    release=st.just("r"),
    kept=st.dictionaries(MANIFESTS, st.just("r")),
    newest_accepted=st.none() | st.sampled_from([*CREATED.values()]),
    known=st.sets(MANIFESTS),
    past=st.lists(PASTS, max_size=3),
    deploying=st.booleans(),
    braked=st.booleans(),
    in_window=st.booleans(),
)
CHANNELS = st.none() | st.builds(
    channel,
    MANIFESTS,
    state=st.sampled_from(["going", "paused"]),
    expires=st.sampled_from([NOW - 1, NOW + HOUR]),
    before=st.none() | MANIFESTS.map(target),
    rollout=st.builds(
        Rollout,
        waves=st.sampled_from([(100,), (("web1",), 100)]),
        attempt=st.integers(1, 2),
        spread_s=st.sampled_from([0, 60]),
    ),
)


@given(CHANNELS, FACTS)
def test_never_older_never_unsigned_never_while_braked_never_against_a_person(
    trusted: TrustedChannel | None, facts: Facts
) -> None:
    action = decide(trusted, facts, NOW).action
    if action is None:
        return
    assert trusted is not None
    assert trusted.signer
    assert facts.mark is not None
    assert facts.mark.digest == trusted.digest
    assert trusted.document.expires > NOW
    assert trusted.document.state == "going"
    assert not facts.braked
    assert not facts.deploying
    done = [one for one in facts.past if one.done]
    assert not done or not done[-1].person
    if isinstance(action, Fetch):
        newest = facts.newest_accepted
        created = action.target.release.created
        assert newest is None or created > newest or action.target.release.manifest in facts.known
        assert newest is None or created >= newest
        assert action.bundles
        assert {one.base for one in action.bundles} <= {"", *facts.kept}
    else:
        assert action.to in facts.kept.values()


@given(CHANNELS, FACTS)
def test_what_failed_with_this_attempt_is_not_begun_by_itself(
    trusted: TrustedChannel | None, facts: Facts
) -> None:
    decision = decide(trusted, facts, NOW)
    if isinstance(decision.action, Fetch):
        wanted = decision.action.target.release.manifest
        failures = [one for one in facts.past if one.manifest == wanted and not one.done]
        assert len(failures) < CHANCES
        assert all(one.code in (Code.INTERRUPTED, Code.BUNDLE_INCOMPLETE, Code.DISK_FULL, Code.UPLOAD_BROKEN)
                   for one in failures)  # fmt: skip


def accepted(trusted: TrustedChannel, before: Mark | None, now: int = NOW) -> Mark:
    return accept(
        trusted, app="shop", channel="stable", host="web1", mark=before, now=now, newest_deployment="shop-9"
    )


def test_the_first_document_makes_a_mark() -> None:
    assert accepted(channel(), None) == mark(seen=NOW, after="shop-9")


def test_the_same_document_again_changes_nothing() -> None:
    before = mark(after="shop-1")
    assert accepted(channel(), before) is before


def test_a_renewed_document_keeps_what_people_did_in_view() -> None:
    renewed = replace(channel(created=NOW), digest="ee" * 32)
    assert accepted(renewed, mark(after="shop-1")).after == "shop-1"


def test_a_channel_that_is_renewed_all_the_time_keeps_no_host_from_beginning() -> None:
    rollout, before, last = Rollout(spread_s=86_400), accepted(channel(created=NOW - 1), None, NOW - 1), -1
    for hour in range(25):
        now = NOW + hour * HOUR
        renewed = replace(channel(created=now, expires=now + 2 * HOUR, rollout=rollout), digest=f"{hour:064x}")
        before = accepted(renewed, before, now)
        last = now
        assert decide(renewed, host(mark=before), now).awaited in (Awaited.SPREAD, None)
    assert decide(renewed, host(mark=before), last).state is State.FETCHING


def test_the_spread_begins_when_a_host_may_begin_itself() -> None:
    """Not when the release was published: all hosts of a later wave would begin at the same moment."""
    closed = accepted(channel(rollout=CLOSED), None, NOW)
    opened = replace(channel(created=NOW, rollout=replace(CLOSED, open=2)), digest="ee" * 32)
    assert (closed.seen, accepted(opened, closed, NOW + HOUR).seen) == (0, NOW + HOUR)
    paused = accepted(channel(state="paused"), None, NOW)
    resumed = replace(channel(created=NOW), digest="ee" * 32)
    assert (paused.seen, accepted(resumed, paused, NOW + HOUR).seen) == (0, NOW + HOUR)
    again = replace(channel(created=NOW, rollout=Rollout(attempt=2)), digest="ee" * 32)
    assert accepted(again, mark(seen=NOW), NOW + HOUR).seen == NOW + HOUR


@pytest.mark.parametrize("newer", [channel(V4, created=NOW), channel(created=NOW, rollout=Rollout(attempt=2))])
def test_a_new_release_or_attempt_begins_afresh(newer: TrustedChannel) -> None:
    assert accepted(newer, mark(after="shop-1")).after == "shop-9"


def test_an_expired_document_still_counts_as_the_newest() -> None:
    assert accepted(channel(expires=NOW - 1), None).created == NOW - HOUR


@pytest.mark.parametrize(
    ("code", "trusted", "before"),
    [
        (Code.WRONG_APP, channel(app="other"), None),
        (Code.WRONG_CHANNEL, channel(channel="beta"), None),
        (Code.FROM_THE_FUTURE, channel(created=NOW + 5 * 60_000 + 1), None),
        (Code.OLDER_THAN_ACCEPTED, channel(created=NOW - HOUR - 1), mark()),
        (Code.CHANNEL_FORKED, replace(channel(), digest="ee" * 32), mark()),
    ],
)
def test_a_document_that_may_not_be_used_is_refused(
    code: Code, trusted: TrustedChannel, before: Mark | None
) -> None:
    with pytest.raises(Refused) as refused:
        accepted(trusted, before)
    assert refused.value.code is code


@given(st.lists(st.integers(NOW - HOUR, NOW), min_size=1))
def test_marks_only_rise(times: list[int]) -> None:
    before: Mark | None = None
    for created in times:
        one = replace(channel(created=created), digest=f"{created:064x}")
        try:
            after = accepted(one, before)
        except Refused:
            assert before is not None
            assert created < before.created
            continue
        assert before is None or after.created >= before.created
        before = after


def test_the_rest_of_a_spread_is_counted_from_when_the_document_was_seen() -> None:
    trusted = channel(rollout=Rollout(spread_s=10_000))
    whole = spread_left(trusted, mark(seen=NOW), host="web1", now=NOW)
    assert 0 < whole < 10_000
    assert spread_left(trusted, mark(seen=NOW - 1_000), host="web1", now=NOW) == pytest.approx(whole - 1)
    assert spread_left(trusted, mark(seen=NOW + HOUR), host="web1", now=NOW) == whole
    assert spread_left(trusted, mark(seen=NOW - 10_000_000), host="web1", now=NOW) == 0
