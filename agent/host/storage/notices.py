"""The queue of notices in the journal's file: which deployments' ends have not been told yet, and to whom.

Invariant: a notice is added in the transaction that ends its deployment, so no end is forgotten. What it says is
in the tables already: the queue only names the deployment. It has a longest length; then the oldest are left out.
"""

import asyncio
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from agent.core.notice import Ending
from agent.host.changes import Changes
from agent.host.storage.database import Database

SCHEMA = """
create table notices (number integer primary key, way text not null, deployment text not null);
create table notice_ways (
    way text primary key, due integer not null default 0, failures integer not null default 0, since integer,
    problem text not null default '', left_out integer not null default 0) without rowid;
"""
MOST = 1_000
"""How many may wait for one way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WayState:
    """How a way stands: `failures` in a row, `since` when (ms since 1970), the last `problem`, and when it is due
    again. `left_out` notices were never delivered, `waiting` ones still may be."""

    due: int = 0
    failures: int = 0
    since: int | None = None
    problem: str = ""
    left_out: int = 0
    waiting: int = 0


class NoticeQueue:
    """The notices that wait. `rules` has the ways to tell others, each with the endings it is for.

    Every coroutine may raise Failed(disk_full, disk_error).
    """

    def __init__(self, database: Database, rules: Mapping[str, Collection[Ending]]) -> None:
        self._database = database
        self._rules = rules
        self._added = Changes()

    def add(self, db: sqlite3.Connection, deployment: str, ending: Ending) -> None:
        """Let the end of a deployment be told, in the transaction that is open. Then call `announce`."""
        for way, wanted in self._rules.items():
            if ending in wanted:
                db.execute("insert into notices (way, deployment) values (?, ?)", (way, deployment))
                _make_room(db, way)

    def announce(self) -> None:
        """What was added is durable now."""
        self._added.announce()

    def added(self) -> asyncio.Event:
        """Set at the next `announce`. Take it before asking for the oldest one."""
        return self._added.next()

    async def oldest(self, way: str) -> tuple[int, str] | None:
        """The number of the oldest notice that waits for a way, and its deployment."""
        rows = await self._database.read(
            "select number, deployment from notices where way = ? order by number limit 1", (way,)
        )
        return (rows[0]["number"], rows[0]["deployment"]) if rows else None

    async def state(self, way: str) -> WayState:
        """How a way stands."""
        rows = await self._database.read(
            "select w.due, w.failures, w.since, w.problem, coalesce(w.left_out, 0) as left_out,"
            " (select count(*) from notices where way = ?1) as waiting"
            " from (select ?1 as way) one left join notice_ways w on w.way = one.way",
            (way,),
        )
        found = dict(rows[0])
        return WayState(**found) if found["due"] is not None else WayState(waiting=found["waiting"])

    async def delivered(self, way: str, number: int) -> None:
        """Drop a notice that has arrived."""

        def write(db: sqlite3.Connection) -> None:
            db.execute("delete from notices where number = ?", (number,))
            db.execute("update notice_ways set due = 0, failures = 0, since = null where way = ?", (way,))

        await self._database.write(write)

    async def failed(self, way: str, *, problem: str, now: int, due: int) -> None:
        """Record that the oldest notice of a way did not arrive, and is not tried before `due`."""
        await self._database.write(
            lambda db: db.execute(
                "insert into notice_ways (way, due, failures, since, problem) values (?1, ?2, 1, ?3, ?4)"
                " on conflict do update set due = ?2, failures = failures + 1, since = coalesce(since, ?3),"
                " problem = ?4",
                (way, due, now, problem),
            )
        )

    async def give_up(self, way: str, number: int, *, problem: str) -> None:
        """Drop a notice that will not arrive, and count it."""

        def write(db: sqlite3.Connection) -> None:
            db.execute("delete from notices where number = ?", (number,))
            _leave_out(db, way, 1, problem)

        await self._database.write(write)

    async def mend(self, way: str) -> None:
        """Forget what was wrong with a way: it works now. What waits for it is due."""
        await self._database.write(lambda db: db.execute("delete from notice_ways where way = ?", (way,)))
        self._added.announce()

    async def keep_ways(self) -> None:
        """Forget what waits for ways that there are no more."""

        def write(db: sqlite3.Connection) -> None:
            rows = db.execute("select way from notices union select way from notice_ways").fetchall()
            for way in {row["way"] for row in rows} - {*self._rules}:
                db.execute("delete from notices where way = ?", (way,))
                db.execute("delete from notice_ways where way = ?", (way,))

        await self._database.write(write)


def _make_room(db: sqlite3.Connection, way: str) -> None:
    over = db.execute(
        "delete from notices where way = ?1 and number not in"
        " (select number from notices where way = ?1 order by number desc limit ?2)",
        (way, MOST),
    ).rowcount
    if over:
        _leave_out(db, way, over, "too many were waiting")


def _leave_out(db: sqlite3.Connection, way: str, count: int, problem: str) -> None:
    db.execute(
        "insert into notice_ways (way, left_out, problem) values (?1, ?2, ?3)"
        " on conflict do update set left_out = left_out + ?2, problem = ?3",
        (way, count, problem),
    )
