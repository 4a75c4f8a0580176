"""The marks of channels in the journal's file: the newest document that was accepted of each.

Invariant: a mark is written before anything begins by its document, so no older document counts after a crash.
"""

import sqlite3
from dataclasses import asdict

from agent.core.channel import Mark

SCHEMA = """
create table marks (
    app text not null, channel text not null, created integer not null, digest text not null,
    manifest text not null, attempt integer not null, seen integer not null, after text not null,
    primary key (app, channel)) without rowid;
"""


def read(db: sqlite3.Connection, app: str, channel: str) -> Mark | None:
    """The mark of a channel, if there is one."""
    row = db.execute(
        "select created, digest, manifest, attempt, seen, after from marks where app = ? and channel = ?",
        (app, channel),
    ).fetchone()
    return Mark(**dict(row)) if row else None


def write(db: sqlite3.Connection, app: str, channel: str, mark: Mark) -> None:
    """Replace the mark of a channel."""
    db.execute(
        "insert or replace into marks values"
        " (:app, :channel, :created, :digest, :manifest, :attempt, :seen, :after)",
        {**asdict(mark), "app": app, "channel": channel},
    )
