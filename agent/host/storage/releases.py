"""The releases in the journal's file: how each stands, and the newest manifest that was accepted of each app.

Invariant: what was accepted last is never forgotten, even if its release is. So no older manifest is accepted.
"""

import sqlite3
from collections.abc import Iterable, Mapping

from agent.core.releases import Release, Standing

SCHEMA = """
create table releases (
    app text not null, id text not null, version text not null, standing text not null,
    created integer not null, pinned integer not null default 0, venv text not null default '',
    made_by text not null default '', primary key (app, id)) without rowid;
create table accepted (app text primary key, created integer not null) without rowid;
"""


def add(db: sqlite3.Connection, app: str, releases: Iterable[Release]) -> None:
    """Add releases, in the transaction that is open."""
    db.executemany(
        "insert into releases (app, id, version, standing, created, venv, made_by) values (?, ?, ?, ?, ?, ?, ?)",
        [(app, one.id, one.version, one.standing, one.created, one.venv, one.by) for one in releases],
    )


def accept(db: sqlite3.Connection, app: str, created: int) -> None:
    """Remember that a manifest was accepted, unless a newer one was."""
    db.execute(
        "insert into accepted values (?1, ?2) on conflict do update set created = max(created, ?2)",
        (app, created),
    )


def set_standings(db: sqlite3.Connection, app: str, standings: Mapping[str, Standing]) -> None:
    """Change how releases stand."""
    for release, standing in standings.items():
        db.execute("update releases set standing = ? where app = ? and id = ?", (standing, app, release))


def set_venv(db: sqlite3.Connection, app: str, release: str, key: str) -> None:
    """Record which venv a release needs."""
    db.execute("update releases set venv = ? where app = ? and id = ?", (key, app, release))


def pin(db: sqlite3.Connection, app: str, release: str, *, pinned: bool) -> bool:
    """Pin or unpin a release; False if there is none."""
    change = "update releases set pinned = ? where app = ? and id = ?"
    return bool(db.execute(change, (pinned, app, release)).rowcount)


def forget(db: sqlite3.Connection, app: str, release: str) -> bool:
    """Drop a release; False if there is none."""
    return bool(db.execute("delete from releases where app = ? and id = ?", (app, release)).rowcount)


def read(db: sqlite3.Connection, app: str) -> list[Release]:
    """Every release of an app that is on disk or being built, oldest first."""
    return [_release(row) for row in db.execute("select * from releases where app = ? order by id", (app,))]


def newest_accepted(db: sqlite3.Connection, app: str) -> int | None:
    """The newest `created` of an accepted manifest or of a release on disk; None if there is none."""
    row = db.execute(
        "select max(created) as newest from (select created from accepted where app = ?1"
        " union all select created from releases where app = ?1)",
        (app,),
    ).fetchone()
    return None if row["newest"] is None else int(row["newest"])


def _release(row: sqlite3.Row) -> Release:
    return Release(
        id=row["id"],
        version=row["version"],
        standing=Standing(row["standing"]),
        created=row["created"],
        pinned=bool(row["pinned"]),
        venv=row["venv"],
        by=row["made_by"],
    )
