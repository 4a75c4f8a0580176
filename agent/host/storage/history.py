"""The history in the journal's file: records that are only ever added, in the transaction of what they record.

Invariant: a change of a table and its record are written together, or neither. Nothing here removes a record.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from agent.core.history import Tables, What, before, difference, digest_of, line
from agent.core.plan import Attempt
from agent.core.releases import Release
from pusher.wire import Head

SCHEMA = """
create table history (
    app text not null, record integer not null, line blob not null, hash text not null,
    primary key (app, record)) without rowid;
"""


def head(db: sqlite3.Connection, app: str) -> Head:
    """The head of an app's history."""
    row = db.execute(
        "select record, hash from history where app = ? order by record desc limit 1", (app,)
    ).fetchone()
    return Head(row["record"], row["hash"]) if row else Head()


def read(db: sqlite3.Connection, app: str, *, after: int, most: int) -> list[bytes]:
    """At most `most` records of an app's history, those after the one of this number, in order."""
    rows = db.execute(
        "select line from history where app = ? and record > ? order by record limit ?", (app, after, most)
    )
    return [bytes(row["line"]) for row in rows]


def append(db: sqlite3.Connection, app: str, what: What, **facts: Any) -> Head:
    """Add a record, in the transaction that is open. A history that has none begins first, with what is there.

    So for an app that may be new, call this before its first row is written.
    """
    last = head(db, app)
    if not last.records:
        last = _begin(db, app)
    return _add(db, app, last, what, facts)


def begin_all(db: sqlite3.Connection) -> dict[str, int]:
    """Begin the histories of a journal that is older than they are. The number of deployments before, by app."""
    apps = db.execute(
        "select app from (select app from deployments union select app from releases union"
        " select app from accepted) where app not in (select app from history)"
    ).fetchall()
    begun = {}
    for (app,) in apps:
        _begin(db, app)
        (begun[app],) = db.execute("select count(*) from deployments where app = ?", (app,)).fetchone()
    return begun


def begun_facts(attempt: Attempt, *, manifest: str, started: int) -> dict[str, Any]:
    """What a record says about the beginning of a deployment."""
    return {
        "id": attempt.id,
        "kind": attempt.kind.value,
        "release": attempt.release,
        "version": attempt.version,
        "previous": attempt.previous,
        "manifest": manifest,
        "started": started,
        "by": attempt.by,
    }


def found_facts(release: Release) -> dict[str, Any]:
    """What a record says about a release that was found on disk."""
    return {
        "id": release.id,
        "version": release.version,
        "standing": release.standing.value,
        "created": release.created,
        "pinned": False,
        "by": release.by,
    }


def events_digest(db: sqlite3.Connection, deployment: str) -> str:
    """What stands for the events of a deployment. They may be dropped later, the digest stays."""
    rows = db.execute(
        "select cast(line as blob) as line from events where deployment = ? order by seq", (deployment,)
    )
    return digest_of(row["line"].rstrip(b"\n") for row in rows)


def problem_digest(document: str | None) -> str:
    """What stands for a deployment's problem: its document may hold much output."""
    return hashlib.sha256(document.encode()).hexdigest() if document else ""


def audit(db: sqlite3.Connection, app: str, *, events: bool) -> str:
    """The first sign that an app's history was changed; empty if there is none. `events`: read these too."""
    records = db.execute(
        "select record, cast(line as blob) as line, hash from history where app = ? order by record", (app,)
    )
    found = ((row["record"], row["line"], row["hash"]) for row in records)
    try:
        return difference(found, _tables(db, app, events=events))
    except (ValueError, TypeError, AttributeError):  # a column may hold anything
        return "its tables cannot be read"


def apps(db: sqlite3.Connection) -> list[str]:
    """The apps that the journal knows."""
    rows = db.execute("select app from history union select app from deployments union select app from releases")
    return sorted(row["app"] for row in rows)


def _begin(db: sqlite3.Connection, app: str) -> Head:
    tables = _tables(db, app, events=False)
    last = _add(db, app, Head(), What.BEGINS, before(tables))
    for one in sorted(tables.begun.keys() - tables.ended.keys()):
        last = _add(db, app, last, What.BEGUN, {**tables.begun[one], "created": None})
    return last


def _add(db: sqlite3.Connection, app: str, last: Head, what: What, facts: dict[str, Any]) -> Head:
    text = line(app, last.records + 1, what, facts)
    added = last.then(text)
    db.execute("insert into history values (?, ?, ?, ?)", (app, added.records, text, added.hash))
    return added


def _tables(db: sqlite3.Connection, app: str, *, events: bool) -> Tables:
    deployments = db.execute("select * from deployments where app = ?", (app,)).fetchall()
    releases = db.execute("select * from releases where app = ?", (app,)).fetchall()
    accepted = db.execute("select created from accepted where app = ?", (app,)).fetchone()
    return Tables(
        begun={row["id"]: _begun_facts(row) for row in deployments},
        ended={row["id"]: _end_facts(row) for row in deployments if row["finished"] is not None},
        releases={row["id"]: _release_facts(row) for row in releases},
        accepted=accepted["created"] if accepted else None,
        events=dict(_events(db, (row["id"] for row in deployments))) if events else {},
    )


def _begun_facts(row: sqlite3.Row) -> dict[str, Any]:
    """As `begun_facts`, from its row."""
    return {
        **{key: row[key] for key in ("id", "kind", "release", "version", "previous", "manifest", "started")},
        "by": row["made_by"],
    }


def _release_facts(row: sqlite3.Row) -> dict[str, Any]:
    """As `found_facts`, from its row."""
    return {
        **{key: row[key] for key in ("id", "version", "standing", "created")},
        "pinned": bool(row["pinned"]),
        "by": row["made_by"],
    }


def _end_facts(row: sqlite3.Row) -> dict[str, Any]:
    return {"phase": row["phase"], "finished": row["finished"], "problem": problem_digest(row["problem"])}


def _events(db: sqlite3.Connection, deployments: Iterable[str]) -> Iterator[tuple[str, str]]:
    for one in deployments:
        if db.execute("select 1 from events where deployment = ? limit 1", (one,)).fetchone():
            yield one, events_digest(db, one)
