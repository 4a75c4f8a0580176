"""A report has one spelling."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.wire import WireError, canonical
from pusher.wire.report import STATES, Named, Report

TIME = 1_795_399_255_000
ONE = Report(
    app="flask-demo",
    channel="stable",
    host="web1.example.com",
    created=TIME,
    state="failed",
    signed=TIME - 1,
    attempt=2,
    live=Named("0a" * 32, "v1"),
    wanted=Named("0b" * 32, "v2"),
    problem={"code": "app_exited", "title": "It ended"},
    labels={"zone": "eu"},
    agent="0.1.0",
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMED = st.none() | st.builds(Named, st.binary(min_size=32, max_size=32).map(bytes.hex), st.just("v1"))
REPORTS = st.builds(
    Report,
    app=st.just("shop"),
    channel=st.just("beta"),
    host=st.sampled_from(["web1", "web1.example.com", "WEB_2"]),
    created=st.integers(0, 253_402_300_799_999),
    state=st.sampled_from(STATES),
    awaited=TEXTS,
    signed=st.integers(0, TIME),
    attempt=st.integers(0, 9),
    live=NAMED,
    wanted=NAMED,
    problem=st.dictionaries(st.sampled_from(["code", "title", "detail", "hint"]), TEXTS.filter(bool)),
    labels=st.dictionaries(TEXTS, TEXTS, max_size=5),
    agent=TEXTS,
)


@given(REPORTS)
def test_a_report_reads_as_what_was_written(report: Report) -> None:
    assert Report.from_bytes(report.to_bytes()) == report
    assert Report.from_checked(report.to_bytes()) == report


def test_texts_that_are_too_long_are_cut() -> None:
    long = Report(
        app="shop", channel="beta", host="web1", created=TIME, state="failed", problem={"title": "x" * 9000}
    )
    assert len(Report.from_bytes(long.to_bytes()).problem["title"]) == 500


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": True},
        {"app": "A"},
        {"channel": ""},
        {"host": "../x"},
        {"created": 1},
        {"state": "splendid"},
        {"awaited": None},
        {"signed": "never"},
        {"attempt": -1},
        {"live": "v1"},
        {"live": {"manifest": "0a", "version": "v1"}},
        {"wanted": {"manifest": "0a" * 32}},
        {"problem": []},
        {"problem": {"code": 1}},
        {"problem": {"output": "long"}},
        {"labels": {str(at): "x" for at in range(33)}},
        {"labels": {"a": 1}},
        {"agent": 1},
        {"more": 1},
    ],
)
def test_anything_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(WireError):
        Report.from_bytes(canonical(json.loads(ONE.to_bytes()) | change))


def test_another_spelling_is_refused() -> None:
    with pytest.raises(WireError):
        Report.from_bytes(ONE.to_bytes().replace(b",", b", ", 1))
