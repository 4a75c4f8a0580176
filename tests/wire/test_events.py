"""Events travel as lines, and problems as RFC 9457 documents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.wire import Code, Event, Failed, Happened, Problem, Refused, Stuck, WireError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3))
DATA = st.dictionaries(TEXT.filter(lambda key: key not in ("seq", "time", "event")), JSON, max_size=4)


@given(st.integers(0, 10**9), st.integers(0, 10**13), st.sampled_from(Happened), DATA)
def test_an_event_reads_as_what_was_written(seq: int, time: int, name: str, data: dict[str, object]) -> None:
    event = Event(seq, time, name, data)
    line = event.to_line()
    assert Event.from_line(line) == event
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1


def test_an_event_of_a_newer_agent_is_read_with_all_it_says() -> None:
    line = b'{"seq":3,"time":"2026-11-23T02:00:55.000Z","event":"danced","to":"a waltz"}\n'
    assert Event.from_line(line) == Event(3, 1_795_399_255_000, "danced", {"to": "a waltz"})


@pytest.mark.parametrize("line", [b"", b"{}", b'{"seq":-1,"time":"2026-11-23T02:00:55.000Z","event":"x"}'])
def test_a_line_that_is_not_an_event_is_refused(line: bytes) -> None:
    with pytest.raises(WireError):
        Event.from_line(line)


@pytest.mark.parametrize("kind", [Refused, Failed, Stuck])
@given(code=st.sampled_from(Code), what=TEXT, why=TEXT, hint=TEXT, output=TEXT)
def test_a_problem_reads_as_what_was_written(
    kind: type[Problem], code: Code, what: str, why: str, hint: str, output: str
) -> None:
    problem = Problem.from_document(kind(code, what, why=why, hint=hint, output=output).to_document())
    assert type(problem) is kind
    assert problem.code is code
    assert (problem.what, problem.why, problem.hint, problem.output) == (what, why, hint, output)


def test_a_problem_document_has_the_members_of_rfc_9457() -> None:
    assert Refused(Code.BUSY, "No", why="because", hint="wait").to_document(status=409) == {
        "type": "about:blank",
        "title": "No",
        "status": 409,
        "detail": "because",
        "code": "busy",
        "outcome": "refused",
        "hint": "wait",
    }


def test_the_code_of_a_newer_agent_is_kept_for_people() -> None:
    problem = Problem.from_document({"title": "No", "code": "moon_phase", "detail": "it wanes"})
    assert type(problem) is Failed
    assert problem.code is Code.INTERNAL
    assert problem.why == "it wanes (code moon_phase)"


def test_an_empty_document_is_a_problem_too() -> None:
    assert str(Problem.from_document({})) == "The agent gave no reason: (code None)"


def test_the_text_of_a_problem_is_what_why_and_what_next() -> None:
    assert str(Refused(Code.BUSY, "No")) == "No"
    assert str(Refused(Code.BUSY, "No", why="because")) == "No: because"
    assert str(Refused(Code.BUSY, "No", why="because", hint="Wait")) == "No: because. Wait"


def test_the_exit_codes_are_those_that_scripts_rely_on() -> None:
    assert (Failed.exit_code, Refused.exit_code, Stuck.exit_code) == (1, 4, 6)
