"""The counts in the journal's file: how often each step was done, and how long it took.

Invariant: a step is counted in the transaction that writes its event, and never again. Events of old deployments
are dropped; the counts stay. Deployments are counted from their own rows, which are never dropped.
"""

import sqlite3
from collections.abc import Mapping

from agent.core.phases import Phase
from agent.core.tally import BOUNDS_MS, ENDLESS, Ending, Tally, bound_of, times
from pusher.wire import Event, Happened

SCHEMA = """
create table step_times (
    app text not null, step text not null, outcome text not null, bound integer not null, count integer not null,
    ms integer not null, primary key (app, step, outcome, bound)) without rowid;
create index deployments_of_outcome on deployments (app, kind, phase, started, finished);
"""
_ENDED: Mapping[str, str] = {Happened.STEP_DONE: Phase.DONE, Happened.STEP_FAILED: Phase.FAILED}


def count(db: sqlite3.Connection, deployment: str, event: Event) -> None:
    """Count the step that an event ends, in the transaction that is open; other events are none."""
    outcome, ms = _ENDED.get(event.event), event.data.get("ms")
    if outcome is None or not isinstance(ms, int):
        return
    db.execute(
        "insert into step_times select app, ?, ?, ?, 1, ? from deployments where id = ?"
        " on conflict do update set count = count + 1, ms = ms + excluded.ms",
        (event.data.get("step"), outcome, bound_of(ms), ms, deployment),
    )


def read(db: sqlite3.Connection, app: str) -> Tally:
    """The counts of an app, in one pass over an index that has nothing else in it."""
    # A clock that was set back makes a time negative: it took no time that is known.
    ended = db.execute(
        f"select kind, phase, {_BOUND} as bound, count(*), sum(max(finished - started, 0)), max(finished)"  # noqa: S608 - numbers of ours
        " from deployments where app = ? and finished is not null group by kind, phase, bound",
        (app,),
    ).fetchall()
    steps = db.execute("select step, outcome, bound, count, ms from step_times where app = ?", (app,)).fetchall()
    last: dict[Ending, int] = {}
    for row in ended:
        ending = Ending(row[0], row[1])
        last[ending] = max(last.get(ending, 0), row[5])
    return Tally(times(tuple(row)[:5] for row in ended), times(tuple(row) for row in steps), last)


_BOUND = (
    "case"
    + "".join(f" when finished - started <= {bound} then {bound}" for bound in BOUNDS_MS)
    + f" else {ENDLESS} end"
)
