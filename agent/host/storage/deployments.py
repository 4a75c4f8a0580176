"""The deployments in the journal's file, and their events.

Invariant: the row of a deployment is never dropped. An event is written once, and counted in the same transaction.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agent.core.phases import Phase
from agent.core.plan import Attempt, Kind
from agent.host.storage import tallies
from pusher.wire import Event

SCHEMA = """
create table deployments (
    id text primary key, app text not null, kind text not null, release text not null, version text not null,
    previous text, made_by text not null, manifest text not null default '', phase text not null,
    resumptions integer not null default 0, started integer not null, finished integer, problem text);
create index deployments_of_app on deployments (app, id);
create index deployments_of_manifest on deployments (app, manifest);
create table events (
    deployment text not null references deployments (id), seq integer not null, line blob not null,
    primary key (deployment, seq)) without rowid;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A deployment as the journal has it. Times are ms since 1970; `problem` is its document, if it failed."""

    attempt: Attempt
    phase: Phase
    manifest: str
    resumptions: int
    started: int
    finished: int | None
    problem: dict[str, Any] | None

    @property
    def ms(self) -> int | None:
        """How long it took; None while it runs, 0 if the clock was set back meanwhile."""
        return None if self.finished is None else max(0, self.finished - self.started)


def begin(db: sqlite3.Connection, attempt: Attempt, *, manifest: str, now: int) -> None:
    """Add a deployment, in the transaction that is open."""
    db.execute(
        "insert into deployments"
        " (id, app, kind, release, version, previous, made_by, manifest, phase, started)"
        " values (:id, :app, :kind, :release, :version, :previous, :by, :manifest, :phase, :started)",
        {**asdict(attempt), "manifest": manifest, "phase": Phase.VERIFIED, "started": now},
    )


def set_phase(db: sqlite3.Connection, deployment: str, phase: Phase) -> None:
    """Move a deployment to a phase."""
    db.execute("update deployments set phase = ? where id = ?", (phase, deployment))


def set_resumptions(db: sqlite3.Connection, deployment: str, resumptions: int) -> None:
    """Record how often a deployment was resumed."""
    db.execute("update deployments set resumptions = ? where id = ?", (resumptions, deployment))


def end(db: sqlite3.Connection, deployment: str, phase: Phase, *, now: int, problem: str | None) -> None:
    """Record how a deployment ended, and the document of its problem."""
    db.execute(
        "update deployments set phase = ?, finished = ?, problem = ? where id = ?",
        (phase, now, problem, deployment),
    )


def add_events(db: sqlite3.Connection, deployment: str, events: Iterable[Event]) -> None:
    """Add events to a deployment; those that are there already stay as they are."""
    for event in events:
        row = (deployment, event.seq, event.to_line())
        if db.execute("insert into events values (?, ?, ?) on conflict do nothing", row).rowcount:
            tallies.count(db, deployment, event)


def trim(db: sqlite3.Connection, app: str, *, keep: int) -> None:
    """Drop the events of all but the newest `keep` deployments of an app."""
    db.execute(
        "delete from events where deployment in (select id from deployments where app = ?"
        " order by id desc limit -1 offset ?)",
        (app, keep),
    )


def events(db: sqlite3.Connection, deployment: str, *, after: int) -> list[Event]:
    """The events of a deployment whose `seq` is above `after`, in order."""
    rows = db.execute("select line from events where deployment = ? and seq > ? order by seq", (deployment, after))
    return [Event.from_line(row["line"]) for row in rows]


def find(db: sqlite3.Connection, deployment: str) -> Record | None:
    """The deployment of this id, if there is one."""
    return _first(db, "where id = ?", (deployment,))


def of_manifest(db: sqlite3.Connection, app: str, manifest: str) -> Record | None:
    """The newest deployment of a manifest, which is named by its SHA-256 (hex). Rollbacks do not count."""
    where = "where app = ? and manifest = ? and kind = 'deploy' order by id desc limit 1"
    return _first(db, where, (app, manifest))


def went_live(db: sqlite3.Connection, app: str, release: str) -> Record | None:
    """The newest deployment that made a release live."""
    return _first(db, "where app = ? and release = ? and phase = 'done' order by id desc limit 1", (app, release))


def unfinished(db: sqlite3.Connection, app: str) -> list[Record]:
    """The deployments that no agent has ended, oldest first."""
    return _records(db, "where app = ? and finished is null order by id", (app,))


def newest(db: sqlite3.Connection, app: str, *, most: int) -> list[Record]:
    """At most `most` deployments, newest first."""
    return _records(db, "where app = ? order by id desc limit ?", (app, most))


def ended_since(db: sqlite3.Connection, app: str, after: str) -> list[Record]:
    """The deployments with an id above `after` that have ended, oldest first."""
    return _records(db, "where app = ? and id > ? and finished is not null order by id", (app, after))


def newest_id(db: sqlite3.Connection, app: str) -> str:
    """The id of the newest deployment; empty if there is none."""
    found = db.execute("select max(id) as id from deployments where app = ?", (app,)).fetchone()["id"]
    return found or ""


def _first(db: sqlite3.Connection, where: str, values: Sequence[Any]) -> Record | None:
    return next(iter(_records(db, where, values)), None)


def _records(db: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[Record]:
    query = f"select * from deployments {where}"  # noqa: S608 - `where` is always a literal of this file
    return [_record(row) for row in db.execute(query, values)]


def _record(row: sqlite3.Row) -> Record:
    attempt = Attempt(
        id=row["id"],
        app=row["app"],
        kind=Kind(row["kind"]),
        release=row["release"],
        version=row["version"],
        previous=row["previous"],
        by=row["made_by"],
        manifest=row["manifest"],
    )
    return Record(
        attempt=attempt,
        phase=Phase(row["phase"]),
        manifest=row["manifest"],
        resumptions=row["resumptions"],
        started=row["started"],
        finished=row["finished"],
        problem=json.loads(row["problem"]) if row["problem"] else None,
    )
