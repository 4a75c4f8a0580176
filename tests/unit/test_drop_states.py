"""Drops in words: their names, what becomes of them, and how long they are kept."""

import pytest

from agent.core.drop import (
    Awaited,
    Final,
    Result,
    State,
    awaited,
    changed_meanwhile,
    document,
    drops,
    failed_step,
    is_final,
    is_ignored,
    result_name,
    results,
    says_the_same,
    surplus,
)
from pusher.wire import Code, Refused

DAY = 24 * 3600 * 1000


def test_drops_are_known_by_their_names() -> None:
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
    assert drops([*bundles, *others]) == sorted(bundles)
    assert drops([*bundles, "tree"])[0] == "tree"  # however many files there are
    for part in ("tree", "tree.manifest.json", "tree.manifest.json.sig", "tree.index.jsonl"):
        assert drops([part, "notes.txt"]) == ["tree"]
        assert not is_ignored(part)
    assert all(is_ignored(name) for name in others)


def test_a_result_is_named_after_its_drop() -> None:
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
def test_a_problem_is_final_only_if_no_later_arrival_can_mend_it(code: Code, apart: bool, final: bool) -> None:
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
def test_a_drop_with_any_other_problem_waits(code: Code, what: Awaited) -> None:
    assert awaited(Refused(code, "x")) is what


def test_a_deployment_whose_files_changed_meanwhile_is_known_by_its_problem() -> None:
    assert changed_meanwhile(Refused(Code.CONTENT_MISMATCH, "x").to_document())
    assert not changed_meanwhile(Refused(Code.APP_EXITED, "x").to_document())
    assert not changed_meanwhile(None)


def test_retention_counts_from_the_newest_and_compares_the_age() -> None:
    final = [Final("old", 1 * DAY), Final("new", 9 * DAY), Final("middle", 8 * DAY)]
    assert surplus(final, now=10 * DAY, keep=3, days=30) == []
    assert surplus(final, now=10 * DAY, keep=1, days=30) == ["middle", "old"]
    assert surplus(final, now=10 * DAY, keep=3, days=5) == ["old"]
    assert surplus(final, now=10 * DAY, keep=3, days=1.5) == ["middle", "old"]


def test_a_result_has_only_known_members_and_its_time_makes_no_difference() -> None:
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


def test_the_failed_step_is_the_first_that_failed() -> None:
    events = [("started", {}), ("hook_failed", {"hook": "before-symlink"}), ("step_failed", {"step": "unpack"})]
    assert failed_step(events) == "before-symlink"
    assert failed_step(events[2:]) == "unpack"
    assert failed_step(events[:1]) == ""
