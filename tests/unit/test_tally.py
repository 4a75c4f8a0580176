"""What is counted: the bounds of times, and the counts in the journal."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.phases import Phase
from agent.core.plan import Attempt, Kind, Step
from agent.core.tally import BOUNDS_MS, ENDLESS, Ending, Tally, Times, bound_of, times
from agent.host.storage.journal import Journal
from pusher.wire import Event, Happened

APP = "shop"


@pytest.mark.parametrize(
    ("ms", "bound"), [(0, 100), (100, 100), (101, 250), (900_000, 900_000), (900_001, ENDLESS), (-5, 100)]
)
def test_a_time_belongs_to_the_first_bound_that_it_does_not_exceed(ms: int, bound: int) -> None:
    assert bound_of(ms) == bound


def test_buckets_add_up_to_the_count() -> None:
    found = Times({100: 2, 5_000: 1, ENDLESS: 4}, ms=7)
    assert found.count == 7
    assert found.up_to()[0] == (100, 2)
    assert dict(found.up_to())[5_000] == 3
    assert found.up_to()[-1] == (ENDLESS, 7)
    assert [bound for bound, _ in found.up_to()] == [*BOUNDS_MS, ENDLESS]


def test_rows_of_one_ending_are_gathered() -> None:
    rows = [("unpack", "done", 100, 2, 50), ("unpack", "done", 250, 1, 200), ("unpack", "failed", 100, 1, 9)]
    assert times(rows) == {
        Ending("unpack", "done"): Times({100: 2, 250: 1}, 250),
        Ending("unpack", "failed"): Times({100: 1}, 9),
    }


def attempt(number: int) -> Attempt:
    return Attempt(
        id=f"{APP}-{number}",
        app=APP,
        kind=Kind.DEPLOY,
        release=str(number),
        version="v1",
        previous=None,
        by="alice",
    )


async def test_steps_stay_counted_when_their_events_are_dropped(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite", history=1)
    await journal.open()
    assert await journal.tally(APP) == Tally()
    for number in range(3):
        one = attempt(number)
        await journal.begin(one, manifest="", created=number, now=1_000)
        events = [
            Event(1, 0, Happened.STARTED, {}),
            Event(2, 0, Happened.STEP_DONE, {"step": Step.UNPACK, "ms": 120}),
            Event(3, 0, Happened.STEP_FAILED, {"step": Step.PREFLIGHT, "ms": 40}),
            Event(4, 0, Happened.STEP_DONE, {"step": Step.SWITCH}),  # of an agent that did not tell the time
        ]
        await journal.note(one.id, events=events)
        await journal.note(one.id, events=events)  # told twice, after a crash: counted once
        await journal.finish(one, Phase.FAILED, now=1_000 + number, problem=None)
        await journal.trim(APP)
    found = await journal.tally(APP)
    assert await journal.events(f"{APP}-0") == []
    assert found.steps == {
        Ending("unpack", "done"): Times({250: 3}, 360),
        Ending("preflight", "failed"): Times({100: 3}, 120),
    }
    assert found.deployments == {Ending("deploy", "failed"): Times({100: 3}, 3)}
    assert found.last == {Ending("deploy", "failed"): 1_002}
    await journal.close()


async def test_what_another_hand_writes_counts_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    await journal.open()
    await journal.begin(attempt(0), manifest="", created=0, now=0)
    await journal.finish(attempt(0), Phase.DONE, now=1, problem=None)
    assert await journal.tally(APP) == await journal.tally(APP)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db, db:
        db.execute("update deployments set phase = 'stuck'")
    assert [*(await journal.tally(APP)).last] == [Ending("deploy", "stuck")]
    await journal.close()


async def test_a_deployment_that_runs_is_not_counted_and_no_time_is_negative(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    await journal.open()
    for number, finished in ((0, 400), (1, None)):
        one = attempt(number)
        await journal.begin(one, manifest="", created=number, now=1_000)
        if finished is not None:  # a clock that was set back
            await journal.finish(one, Phase.DONE, now=finished, problem=None)
    assert (await journal.tally(APP)).deployments == {Ending("deploy", "done"): Times({100: 1}, 0)}
    assert (await journal.tally("blog")) == Tally()
    await journal.close()
