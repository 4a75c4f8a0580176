"""The manifest has one spelling, so that a signature covers one meaning."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.wire import MANIFEST_BYTES, Manifest, Source, WireError, canonical

COUNTS = st.integers(0, 2**53)
TIMES = st.integers(0, 253_402_300_799_999)
MANIFESTS = st.builds(
    Manifest,
    app=st.just("flask-demo"),
    version=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", fullmatch=True),
    created=TIMES,
    expires=TIMES,
    index_sha256=st.just("0a" * 32),
    index_size=COUNTS,
    files=COUNTS,
    unpacked_size=COUNTS,
    hosts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=3).map(tuple),
    source=st.none() | st.builds(Source, st.from_regex(r"[0-9a-f]{40}|[0-9a-f]{64}", fullmatch=True), COUNTS),
)
ONE = Manifest(
    app="flask-demo",
    version="v3",
    created=1_795_399_255_000,
    expires=1_797_991_255_000,
    index_sha256="0a" * 32,
    index_size=247,
    files=2,
    unpacked_size=455,
)


@given(MANIFESTS)
def test_a_manifest_reads_as_what_was_written(manifest: Manifest) -> None:
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


def test_a_manifest_is_spelled_as_documented() -> None:
    assert ONE.to_bytes() == (
        b'{"app":"flask-demo","created":"2026-11-23T02:00:55.000Z","expires":"2026-12-23T02:00:55.000Z","files":2,'
        b'"index":{"sha256":"' + b"0a" * 32 + b'","size":247},"schema":1,"unpacked_size":455,"version":"v3"}'
    )


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": None},
        {"schema": True},
        {"app": "Flask"},
        {"version": "a b"},
        {"created": "now"},
        {"expires": 1},
        {"files": -1},
        {"requires_python": "three"},
        {"unpacked_size": "455"},
        {"index": []},
        {"index": {"sha256": "x", "size": 1}},
        {"index": {"sha256": "0a" * 32, "size": 247, "more": 1}},
        {"hosts": "web1"},
        {"hosts": [1]},
        {"hosts": [""]},
        {"hosts": []},
        {"hosts": ["\ud800"]},
        {"more": 1},
        {"source": None},
        {"source": "0a" * 20},
        {"source": {"commit": "0a" * 20}},
        {"source": {"commit": "0A" * 20, "changed": 0}},
        {"source": {"commit": "0a" * 19, "changed": 0}},
        {"source": {"commit": "0a" * 20, "changed": -1}},
        {"source": {"commit": "0a" * 20, "changed": True}},
        {"source": {"commit": "0a" * 20, "changed": 0, "more": 1}},
    ],
)
def test_a_manifest_with_other_members_is_refused(change: dict[str, object]) -> None:
    members = json.loads(ONE.to_bytes()) | change
    raw = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(WireError):
        Manifest.from_bytes(raw)


@pytest.mark.parametrize("missing", ["app", "version", "created", "expires", "files", "unpacked_size", "index"])
def test_a_manifest_without_one_of_its_members_is_refused(missing: str) -> None:
    members = json.loads(ONE.to_bytes())
    del members[missing]
    with pytest.raises(WireError, match="is missing"):
        Manifest.from_bytes(canonical(members))


@pytest.mark.parametrize(
    "raw", [ONE.to_bytes() + b"\n", ONE.to_bytes().replace(b",", b", "), b" " + ONE.to_bytes()]
)
def test_a_manifest_in_another_spelling_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError, match="is not in canonical form"):
        Manifest.from_bytes(raw)


def test_a_manifest_of_more_than_64_kib_is_refused_unread() -> None:
    with pytest.raises(WireError, match="65537 bytes; the limit is 65536"):
        Manifest.from_bytes(b" " * (MANIFEST_BYTES + 1))


@pytest.mark.parametrize("text", ["a\nb", "x" * 5000])
def test_a_branch_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="no branch and no remote"):
        Source("0" * 40, 0, branch=text)
