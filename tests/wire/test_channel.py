"""The channel document has one spelling, and one meaning for each host."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.wire import WireError, canonical
from pusher.wire.channel import (
    BUNDLES_MOST,
    CHANNEL_BYTES,
    WAVES_MOST,
    BundleObject,
    Channel,
    ChannelRelease,
    Rollout,
    Target,
    bell_name,
    brake_name,
    channel_name,
    check_channel,
    check_host,
    check_waves,
    join_signed,
    object_name,
    report_name,
    share,
    split_signed,
    spread_of,
    subject,
    wave_of,
)

TIME = 1_795_399_255_000
WEEK = 7 * 24 * 3600 * 1000
RELEASE = ChannelRelease(manifest="0a" * 32, version="v3", created=TIME)
TARGET = Target(RELEASE, (BundleObject("", "0b" * 32, 1_061_883), BundleObject("0c" * 32, "0d" * 32, 59_436)))
ONE = Channel(
    app="flask-demo",
    channel="stable",
    created=TIME,
    expires=TIME + WEEK,
    target=TARGET,
    rollout=Rollout(open=2, waves=(("web1", "web2"), 10, 100), spread_s=60, max_failed=3),
)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
TIMES = st.integers(0, 253_402_300_799_999)
TARGETS = st.builds(
    Target,
    st.builds(ChannelRelease, manifest=DIGESTS, version=st.just("v1.0+b"), created=TIMES),
    st.lists(DIGESTS, unique=True, max_size=3).flatmap(
        lambda bases: st.tuples(*(st.builds(BundleObject, st.just(one), DIGESTS, TIMES) for one in ("", *bases)))
    ),
)
NAMES = st.sampled_from(["shop", "flask-demo", "a1", "b" * 31])
WAVES = st.one_of(st.just((100,)), st.just((("web1",), 1, 99)), st.tuples(st.lists(NAMES, min_size=1).map(tuple)))
CHANNELS = st.builds(
    Channel,
    app=NAMES,
    channel=NAMES,
    created=TIMES,
    expires=TIMES,
    state=st.sampled_from(["going", "paused"]),
    target=TARGETS,
    before=st.none() | TARGETS,
    rollout=st.builds(Rollout, attempt=st.integers(1, 9), waves=WAVES, spread_s=st.integers(0, 900)),
)


@given(CHANNELS)
def test_a_document_reads_as_what_was_written(document: Channel) -> None:
    assert Channel.from_bytes(document.to_bytes()) == document


def test_a_document_is_spelled_as_documented() -> None:
    assert ONE.to_bytes() == (
        b'{"app":"flask-demo","bundles":[{"from":"","sha256":"' + b"0b" * 32 + b'","size":1061883},'
        b'{"from":"' + b"0c" * 32 + b'","sha256":"' + b"0d" * 32 + b'","size":59436}],"channel":"stable",'
        b'"created":"2026-11-23T02:00:55.000Z","expires":"2026-11-30T02:00:55.000Z",'
        b'"release":{"created":"2026-11-23T02:00:55.000Z","manifest":"' + b"0a" * 32 + b'","version":"v3"},'
        b'"rollout":{"attempt":1,"max_failed":3,"open":2,"silent_s":1800,"spread_s":60,'
        b'"waves":[["web1","web2"],10,100]},"schema":1,"state":"going"}'
    )


def changed(*path: str | int, to: object) -> bytes:
    members = json.loads(ONE.to_bytes())
    at = members
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return canonical(members)


@pytest.mark.parametrize(
    "raw",
    [
        changed("schema", to=2),
        changed("schema", to=True),
        changed("app", to="Flask"),
        changed("channel", to="S"),
        changed("created", to="now"),
        changed("state", to="stopped"),
        changed("state", to=1),
        changed("release", to=[]),
        changed("release", "manifest", to="0A" * 32),
        changed("release", "version", to="a b"),
        changed("bundles", to=[]),
        changed("bundles", to=[1]),
        changed("bundles", to=[{"from": "0c" * 32, "sha256": "0d" * 32, "size": 1}]),
        changed("bundles", to=[{"from": "", "sha256": "0d" * 32, "size": 1}] * 2),
        changed("bundles", to=[{"from": "", "sha256": "0d" * 32, "size": 1}] * (BUNDLES_MOST + 1)),
        changed("bundles", 0, "size", to=-1),
        changed("bundles", 1, "from", to="x"),
        changed("before", to=1),
        changed("before", to={}),
        changed("rollout", to=None),
        changed("rollout", "attempt", to=0),
        changed("rollout", "open", to=4),
        changed("rollout", "open", to=0),
        changed("rollout", "spread_s", to=10**8),
        changed("rollout", "silent_s", to=0),
        changed("rollout", "max_failed", to=0),
        changed("rollout", "waves", to=[]),
        changed("rollout", "waves", to=[100] * (WAVES_MOST + 1)),
        changed("rollout", "waves", to=[10, 10, 100]),
        changed("rollout", "waves", to=[0, 1, 100]),
        changed("rollout", "waves", to=[True, 2, 100]),
        changed("rollout", "waves", to=[1, 2, 101]),
        changed("rollout", "waves", to=[[], 1, 100]),
        changed("rollout", "waves", to=[[1], 1, 100]),
        changed("rollout", "waves", to=[["a/b"], 1, 100]),
        changed("rollout", "waves", to=[["a..b"], 1, 100]),
        changed("rollout", "waves", to=["web1", 1, 100]),
        changed("more", to=1),
        ONE.to_bytes().replace(b",", b", ", 1),
        b"[]",
        b"",
    ],
)
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        Channel.from_bytes(raw)


def test_document_and_signature_are_one_object() -> None:
    raw = join_signed(ONE.to_bytes(), b"-----BEGIN SSH SIGNATURE-----\n")
    assert split_signed(raw) == (ONE.to_bytes(), b"-----BEGIN SSH SIGNATURE-----\n")


@pytest.mark.parametrize("raw", [b"", b"{}", b"{}\n", b"x" * (CHANNEL_BYTES + 1)])
def test_an_object_without_a_signature_or_without_an_end_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        split_signed(raw)


def test_a_percentage_contains_about_so_many_hosts_and_each_wave_those_before() -> None:
    hosts = [f"web{number}" for number in range(2_000)]
    waves = [wave_of(Rollout(waves=(10, 50, 100)), manifest="0a" * 32, host=one) for one in hosts]
    assert 150 < waves.count(1) < 250
    assert 700 < waves.count(2) < 900
    assert None not in waves


def test_each_release_deals_the_hosts_anew() -> None:
    hosts = [f"web{number}" for number in range(100)]
    first, second = ([share(one * 32, host) for host in hosts] for one in ("0a", "0b"))
    assert first != second


def test_a_named_host_is_in_its_wave_and_a_stranger_in_none() -> None:
    rollout = Rollout(waves=(("web1", "web2"),))
    assert wave_of(rollout, manifest="0a" * 32, host="web2") == 1
    assert wave_of(rollout, manifest="0a" * 32, host="web3") is None


def test_the_hosts_of_one_wave_begin_spread_over_its_whole_time() -> None:
    rollout = Rollout(waves=(10, 100), spread_s=60)
    hosts = [f"web{number}" for number in range(2_000)]
    begins = [
        spread_of(rollout, manifest="0a" * 32, host=one)
        for one in hosts
        if wave_of(rollout, manifest="0a" * 32, host=one) == 1
    ]
    assert min(begins) < 5
    assert 55 < max(begins) < 60
    assert spread_of(replace(rollout, spread_s=0), manifest="0a" * 32, host="web1") == 0


def test_objects_have_their_places() -> None:
    assert object_name("0a") == "bundles/0a.tar.zst"
    assert channel_name("shop", "stable") == "channels/shop/stable"
    assert brake_name("shop", "stable") == "brakes/shop/stable"
    assert bell_name("shop", "stable") == "bells/shop/stable"
    assert report_name("shop", "web1") == "reports/shop/web1"


def test_names_that_could_leave_a_folder_are_no_names() -> None:
    for wrong in ("..", ".x", "a/b", "a..b", "", "a\n", "x" * 254):
        with pytest.raises(WireError):
            check_host(wrong)
    for wrong in ("..", "A", "a", "a/b", "ab\n"):
        with pytest.raises(WireError):
            check_channel(wrong)
    assert check_host("web1.example.com") == "web1.example.com"
    assert check_waves([("web1",), 100]) == (("web1",), 100)


def test_bells_and_reports_have_subjects_and_nothing_else_has():
    assert subject("bells/flask-demo/stable") == "pusher.bells.flask-demo.stable"
    assert subject("reports/flask-demo/web1.example.com") == "$KV.reports.flask-demo.web1.example.com"
    for name in (
        "channels/a/b",
        "bells",
        "bells/a",
        "reports/a/",
        "reports/a/b..c",
        "reports/a/>",
        "reports/a/*",
        "reports/a/b.",
    ):
        with pytest.raises(WireError):
            subject(name)
