"""How far a deployment has come: the state machine as a literal table.

Invariant: `PHASES` alone moves a deployment from one phase to another, and `RECOVERY` alone decides what an agent
that starts does with a deployment in each phase. The diagram in docs/explanation/concepts.md shows these tables.
"""

from collections.abc import Mapping
from enum import StrEnum


class Phase(StrEnum):
    """What is durable in the journal about a deployment."""

    VERIFIED = "verified"  # the signed manifest is on disk; the release is being built; nothing live has changed
    SWITCHING = "switching"  # `current` points at the old or the new release: only the link says which
    SWITCHED = "switched"  # `current` points at the new release; the service may run either
    CONFIRMING = "confirming"  # the new release has been started and is being checked
    COMMITTED = "committed"  # it answered: from here on nothing is taken back
    DISCARDING = "discarding"  # a step failed before the switch: the new release is being removed
    RETURNING = "returning"  # a step failed after it: what was live is being brought back
    DONE = "done"
    FAILED = "failed"
    STUCK = "stuck"


class Signal(StrEnum):
    """What can move a deployment to another phase."""

    SWITCH_BEGINS = "switch begins"
    SWITCH_ENDED = "switch ended"
    CONFIRM_BEGINS = "confirm begins"
    RESUMED = "resumed"
    CONFIRMED = "confirmed"
    CLEANED_UP = "cleaned up"
    STEP_FAILED = "step failed"
    UNDONE = "undone"
    NOT_UNDONE = "not undone"


PHASES: Mapping[Phase, Mapping[Signal, Phase]] = {
    Phase.VERIFIED: {
        Signal.SWITCH_BEGINS: Phase.SWITCHING,
        Signal.STEP_FAILED: Phase.DISCARDING,
    },
    Phase.SWITCHING: {
        Signal.SWITCH_ENDED: Phase.SWITCHED,
        Signal.RESUMED: Phase.SWITCHED,
        Signal.STEP_FAILED: Phase.RETURNING,
    },
    Phase.SWITCHED: {
        Signal.CONFIRM_BEGINS: Phase.CONFIRMING,
        Signal.RESUMED: Phase.SWITCHED,
        Signal.STEP_FAILED: Phase.RETURNING,
    },
    Phase.CONFIRMING: {
        Signal.CONFIRMED: Phase.COMMITTED,
        Signal.RESUMED: Phase.SWITCHED,
        Signal.STEP_FAILED: Phase.RETURNING,
    },
    Phase.COMMITTED: {Signal.CLEANED_UP: Phase.DONE},
    Phase.DISCARDING: {Signal.UNDONE: Phase.FAILED, Signal.NOT_UNDONE: Phase.STUCK},
    Phase.RETURNING: {Signal.UNDONE: Phase.FAILED, Signal.NOT_UNDONE: Phase.STUCK},
    Phase.DONE: {},
    Phase.FAILED: {},
    Phase.STUCK: {},
}


class Recovery(StrEnum):
    """What an agent that starts does with an unfinished deployment."""

    UNDO = "undo"
    READ_LINK = "read link"  # resume if `current` points at the new release, else undo
    RESUME = "resume"  # from `restart` on, unless it was resumed too often
    FINISH = "finish"  # only the clean-up is left


RECOVERY: Mapping[Phase, Recovery] = {
    Phase.VERIFIED: Recovery.UNDO,
    Phase.SWITCHING: Recovery.READ_LINK,
    # The link decides here too: a return may have come further than the journal, if that could not be written.
    Phase.SWITCHED: Recovery.READ_LINK,
    Phase.CONFIRMING: Recovery.READ_LINK,
    Phase.COMMITTED: Recovery.FINISH,
    Phase.DISCARDING: Recovery.UNDO,
    Phase.RETURNING: Recovery.UNDO,
}

RESUMPTIONS = 2
"""How often a deployment is resumed before recovery takes it back. It ends even if its release kills the host."""


def advance(phase: Phase, signal: Signal) -> Phase:
    """The phase after `signal`. Raises: RuntimeError where the table has no such arrow: our own bug."""
    try:
        return PHASES[phase][signal]
    except KeyError:
        raise RuntimeError(f"a deployment in phase {phase!r} cannot take the signal {signal!r}") from None


def recovery(phase: Phase, *, link_says_new: bool, resumptions: int) -> Recovery:
    """What to do with a deployment found in `phase`: UNDO, RESUME or FINISH."""
    chosen = RECOVERY[phase]
    if chosen is Recovery.READ_LINK:
        chosen = Recovery.RESUME if link_says_new else Recovery.UNDO
    return Recovery.UNDO if chosen is Recovery.RESUME and resumptions >= RESUMPTIONS else chosen
