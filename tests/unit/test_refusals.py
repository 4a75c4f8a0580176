"""Refusals are logged with caller and reason, and a flood of them does not fill the log."""

from structlog.testing import capture_logs

from agent.core.allowance import Allowance
from agent.doors.refusals import Refusals
from pusher.wire import Code, Refused

UNSIGNED = Refused(Code.SIGNATURE_INVALID, "The signature is forged", why="it is of other bytes")
STRANGER = Refused(Code.NOT_ALLOWED, "eve may not deploy on this host")


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_refusal_is_one_event_with_door_caller_code_and_reason() -> None:
    with capture_logs() as logs:
        Refusals().note(UNSIGNED, door="http", caller="alice (uid 1000)", method="POST", path="/deployments")
    assert logs == [
        {
            "event": "refused",
            "log_level": "warning",
            "door": "http",
            "caller": "alice (uid 1000)",
            "code": "signature_invalid",
            "reason": "The signature is forged",
            "why": "it is of other bytes",
            "method": "POST",
            "path": "/deployments",
        }
    ]


def test_a_flood_of_one_caller_leaves_a_few_lines_and_their_number() -> None:
    time = Time()
    refusals = Refusals(elapsed=time)
    with capture_logs() as logs:
        for _ in range(100_000):
            refusals.note(STRANGER, door="http", caller="eve")
        time.now += 10
        refusals.note(STRANGER, door="http", caller="eve")
    assert len(logs) == 11
    assert logs[-1]["left_out"] == 99_990


def test_a_flood_of_many_callers_is_bounded_and_does_not_hide_a_forged_bundle() -> None:
    time = Time()
    refusals = Refusals(elapsed=time)
    with capture_logs() as logs:
        for number in range(10_000):
            time.now += 0.01
            refusals.note(STRANGER, door="http", caller=f"uid {number}")
        refusals.note(UNSIGNED, door="drop", caller="uid 7")
    assert len(logs) < 60
    assert logs[-1]["code"] == "signature_invalid"


def test_an_allowance_comes_back_with_time_and_forgets_who_spent_nothing_for_long() -> None:
    allowance = Allowance(rate=1, burst=2)
    assert [allowance.spend("a", now=0) for _ in range(3)] == [True, True, False]
    assert allowance.spend("a", now=1)
    for number in range(5_000):
        assert allowance.spend(number, now=10 + number)
    assert allowance.spend("a", now=10_000)
