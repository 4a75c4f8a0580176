"""A report has one spelling."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.wire import WireError, canonical
from pusher.wire.report import STATES, Named, Report, ReportReader

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


def read(reader: Callable[[bytes], Report], raw: bytes) -> Report | None:
    """The report in `raw`; None if it is refused."""
    try:
        return reader(raw)
    except WireError:
        return None


@given(REPORTS, REPORTS)
def test_a_reader_reads_each_report_as_if_it_were_alone(first: Report, second: Report) -> None:
    reader = ReportReader()
    alike = (
        replace(first, host=second.host, created=second.created),
        replace(first, agent=second.agent),
        replace(first, labels=second.labels),
    )
    for report in (first, second, *alike, first):
        assert reader.read(report.to_bytes()) == report


PIECES = [
    *(b'"', b"\\", b",", b":", b"{", b"}", b"x", b"1", b" ", b"\x00", b"\xff", "\u0661".encode()),
    *(b'"created":"', b',"created":"', b'","host":"', b'{"host":"web1"}', b"2026-02-30T00:00:00.000Z"),
]


@given(REPORTS, st.data())
def test_a_reader_refuses_whatever_is_refused_alone(report: Report, data: st.DataObject) -> None:
    """After it has read the same report as it was before something in it was changed."""
    reader, raw = ReportReader(), report.to_bytes()
    assert reader.read(raw) == report
    # Most of the changes around the two members that are read by themselves.
    middle = raw.index(b',"created":"')
    begin = data.draw(st.integers(0, len(raw)) | st.integers(middle, middle + 60))
    end = begin + data.draw(st.integers(0, 3))
    changed = raw[:begin] + b"".join(data.draw(st.lists(st.sampled_from(PIECES), max_size=3))) + raw[end:]
    assert read(reader.read, changed) == read(Report.from_bytes, changed)
    assert reader.read(raw) == report


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"created":"2026', b'"created":"\xff026'),
        (b'"created":"2026-11', b'"created":"2026-13'),
        (b'"host":"web1', b'"host":"../web1'),
        (b'"host":"web1', b'"host":"web\xd9\xa1'),
        (b'"host":"web1', b'"host":"web\\"1'),
        (b'"host":"web1', b'"host":"'),
        (b'"host":', b'"host": '),
        (b'"host"', b'"created":"2026-11-23T00:00:00.000Z","host"'),
    ],
)
def test_time_and_host_of_each_report_are_checked(old: bytes, new: bytes) -> None:
    reader, raw = ReportReader(), ONE.to_bytes()
    assert reader.read(raw) == ONE
    assert old in raw
    with pytest.raises(WireError):
        reader.read(raw.replace(old, new))
