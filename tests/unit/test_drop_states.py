"""What lies in a drop directory, in words: names, states, and what stays how long."""

import pytest

from agent.core.drop import (
    Awaited,
    Kept,
    Result,
    State,
    awaited,
    concerns_nobody,
    document,
    failed_step,
    is_final,
    is_torn,
    landings,
    longer,
    result_name,
    results,
    says_the_same,
    surplus,
)
from pusher.wire import Code, Refused

DAY = 24 * 3600 * 1000


def test_landings_are_told_by_their_names() -> None:
    bundles = ["flask-demo-v3.tar.zst", "a+b_c.1.tar.zst"]
    others = [
        ".flask-demo-v3.tar.zst.x7Gh2a",
        ".hidden.tar.zst",
        "notes.txt",
        "two words.tar.zst",
        "a\nb.tar.zst",
        f"{'x' * 300}.tar.zst",
        "flask-demo-v3.tar.zst.result.json",
        "tree.result.json",
    ]
    assert landings([*bundles, *others]) == sorted(bundles)
    assert landings([*bundles, "tree"])[0] == "tree"  # no crowd of files keeps it from being looked at
    for part in ("tree", "tree.manifest.json", "tree.manifest.json.sig", "tree.index.jsonl"):
        assert landings([part, "notes.txt"]) == ["tree"]
        assert not concerns_nobody(part)
    assert all(concerns_nobody(name) for name in others)


def test_results_name_the_landings_they_tell_of() -> None:
    names = [result_name("tree"), result_name("x.tar.zst"), "other.result.json", "x.tar.zst", ".result.json"]
    assert results(names) == {"tree.result.json": "tree", "x.tar.zst.result.json": "x.tar.zst"}


@pytest.mark.parametrize(
    ("code", "apart", "final"),
    [
        (Code.WRONG_APP, True, True),
        (Code.OLDER_THAN_ACCEPTED, False, True),
        (Code.SIGNATURE_INVALID, False, True),
        (Code.SIGNATURE_INVALID, True, False),
        (Code.SIGNER_UNKNOWN, True, True),
        (Code.BUNDLE_MALFORMED, False, False),
        (Code.DISK_FULL, False, False),
    ],
)
def test_only_what_no_later_arrival_can_mend_is_final(code: Code, apart: bool, final: bool) -> None:
    assert is_final(Refused(code, "x"), manifest_apart=apart) is final


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (Code.BUNDLE_MALFORMED, Awaited.ARRIVAL),
        (Code.SIGNATURE_INVALID, Awaited.ARRIVAL),
        (Code.BUNDLE_INCOMPLETE, Awaited.ARRIVAL),
        (Code.BUSY, Awaited.TURN),
        (Code.DISK_FULL, Awaited.HOST),
        (Code.UPLOAD_BROKEN, Awaited.HOST),
        (Code.STOPPING, Awaited.HOST),
    ],
)
def test_for_everything_else_somebody_waits(code: Code, what: Awaited) -> None:
    assert awaited(Refused(code, "x")) is what


def test_a_deployment_is_torn_if_what_it_read_was_changed_meanwhile() -> None:
    assert is_torn(Refused(Code.CONTENT_MISMATCH, "x").to_document())
    assert not is_torn(Refused(Code.APP_EXITED, "x").to_document())
    assert not is_torn(None)


def test_pauses_double_up_to_a_minute() -> None:
    pauses = [longer(0)]
    while longer(pauses[-1]) != pauses[-1]:
        pauses.append(longer(pauses[-1]))
    assert pauses == [5, 10, 20, 40, 60]


def test_retention_counts_from_the_newest_and_looks_at_the_age() -> None:
    kept = [Kept("old", 1 * DAY), Kept("new", 9 * DAY), Kept("middle", 8 * DAY)]
    assert surplus(kept, now=10 * DAY, keep=3, days=30) == []
    assert surplus(kept, now=10 * DAY, keep=1, days=30) == ["middle", "old"]
    assert surplus(kept, now=10 * DAY, keep=3, days=5) == ["old"]
    assert surplus(kept, now=10 * DAY, keep=3, days=1.5) == ["middle", "old"]


def test_a_result_says_what_is_known_and_its_time_is_no_difference() -> None:
    waiting = Result(name="tree", state=State.WAITING, awaited=Awaited.TURN, waiting_for="its turn")
    written = document("flask-demo", waiting, since=0)
    assert written == {
        "app": "flask-demo",
        "name": "tree",
        "state": "waiting",
        "awaited": "turn",
        "waiting_for": "its turn",
        "since": "1970-01-01T00:00:00.000Z",
    }
    assert says_the_same(written, document("flask-demo", waiting, since=5))
    refused = Result(name="tree", state=State.REFUSED, version="v1", problem={"code": "busy"})
    assert refused.members() == {"name": "tree", "state": "refused", "version": "v1", "problem": {"code": "busy"}}
    assert not says_the_same(written, document("flask-demo", refused, since=0))


def test_the_step_of_a_failure_is_its_first() -> None:
    events = [("started", {}), ("hook_failed", {"hook": "before-symlink"}), ("step_failed", {"step": "unpack"})]
    assert failed_step(events) == "before-symlink"
    assert failed_step(events[2:]) == "unpack"
    assert failed_step(events[:1]) == ""
