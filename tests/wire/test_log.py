"""The app's log travels as lines, and so does the reason why there are no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.wire import Code, Failed, LogLine, LogUnit, Problem, WireError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.integers(0, 10**13), st.sampled_from(LogUnit), TEXT, st.integers(0, 7), st.none() | st.integers(0, 10**6)
)
def test_a_line_reads_as_what_was_written(time: int, unit: str, text: str, priority: int, pid: int | None) -> None:
    line = LogLine(time, unit, text, priority, pid)
    assert LogLine.from_line(line.to_line()) == line
    assert line.to_line().count(b"\n") == 1


def test_a_log_that_broke_off_ends_with_the_reason() -> None:
    problem = Failed(Code.SERVICE_FAILED, "The log cannot be read", why="no journal")
    with pytest.raises(Problem) as caught:
        LogLine.from_line(LogLine.broken_off(problem))
    assert caught.value.to_document() == problem.to_document()


@pytest.mark.parametrize("pid", ['"1"', "1.5", "{}"])
def test_a_line_that_is_not_of_a_log_is_refused(pid: str) -> None:
    with pytest.raises(WireError):
        LogLine.from_line(b"{}")
    line = '{"time":"2026-11-23T02:00:55.000Z","unit":"service","message":"","priority":6,"pid":%s}'
    assert LogLine.from_line((line % "1").encode()).pid == 1
    with pytest.raises(WireError):
        LogLine.from_line((line % pid).encode())
