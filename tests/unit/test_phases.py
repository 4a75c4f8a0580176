"""The state machine of a deployment."""

import pytest

from agent.core.phases import PHASES, RECOVERY, RESUMPTIONS, Phase, Recovery, Signal, advance, recovery

ENDED = {Phase.DONE, Phase.FAILED, Phase.STUCK}


def test_a_deployment_that_goes_well_passes_through_every_phase_to_done():
    phase = Phase.VERIFIED
    for signal in (
        Signal.SWITCH_BEGINS,
        Signal.SWITCH_ENDED,
        Signal.CONFIRM_BEGINS,
        Signal.CONFIRMED,
        Signal.CLEANED_UP,
    ):
        phase = advance(phase, signal)
    assert phase is Phase.DONE


def test_every_phase_is_in_the_table_and_only_ended_ones_lead_nowhere():
    assert set(PHASES) == set(Phase)
    assert {phase for phase, arrows in PHASES.items() if not arrows} == ENDED


def test_every_phase_before_the_commit_can_fail_and_none_after_it():
    can_fail = {phase for phase, arrows in PHASES.items() if Signal.STEP_FAILED in arrows}
    assert can_fail == {Phase.VERIFIED, Phase.SWITCHING, Phase.SWITCHED, Phase.CONFIRMING}


def test_a_failure_before_the_switch_discards_and_one_after_it_returns():
    assert advance(Phase.VERIFIED, Signal.STEP_FAILED) is Phase.DISCARDING
    for phase in (Phase.SWITCHING, Phase.SWITCHED, Phase.CONFIRMING):
        assert advance(phase, Signal.STEP_FAILED) is Phase.RETURNING


def test_an_arrow_that_is_not_in_the_table_is_our_own_bug():
    with pytest.raises(RuntimeError, match="cannot take the signal"):
        advance(Phase.DONE, Signal.CONFIRMED)


def test_recovery_has_an_entry_for_every_phase_that_has_not_ended():
    assert set(RECOVERY) == set(Phase) - ENDED


@pytest.mark.parametrize(
    ("phase", "link_says_new", "todo"),
    [
        (Phase.VERIFIED, False, Recovery.UNDO),
        (Phase.SWITCHING, False, Recovery.UNDO),
        (Phase.SWITCHING, True, Recovery.RESUME),
        (Phase.SWITCHED, True, Recovery.RESUME),
        (Phase.CONFIRMING, True, Recovery.RESUME),
        (Phase.SWITCHED, False, Recovery.UNDO),
        (Phase.CONFIRMING, False, Recovery.UNDO),
        (Phase.COMMITTED, True, Recovery.FINISH),
        (Phase.DISCARDING, False, Recovery.UNDO),
        (Phase.RETURNING, True, Recovery.UNDO),
    ],
)
def test_recovery_follows_the_phase_and_at_the_switch_the_link(phase, link_says_new, todo):
    assert recovery(phase, link_says_new=link_says_new, resumptions=0) is todo


def test_a_deployment_that_was_resumed_too_often_is_taken_back():
    assert recovery(Phase.CONFIRMING, link_says_new=True, resumptions=RESUMPTIONS) is Recovery.UNDO
    assert recovery(Phase.COMMITTED, link_says_new=True, resumptions=RESUMPTIONS) is Recovery.FINISH
