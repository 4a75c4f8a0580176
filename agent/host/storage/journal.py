"""The journal: which deployments were begun, how far each came, and which releases are good.

Invariant: a method that returned has been flushed to disk; one that raised has changed nothing.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.core.channel import Mark
from agent.core.history import What
from agent.core.notice import Ending, ending
from agent.core.phases import Phase
from agent.core.plan import Attempt, Kind
from agent.core.releases import Release, Standing
from agent.core.tally import Tally
from agent.host.storage import history as records
from agent.host.storage import marks, notices, tallies
from agent.host.storage.database import Database
from agent.host.storage.notices import NoticeQueue
from pusher.wire import Event, Head, Problem

_TABLES = """
create table deployments (
    id text primary key, app text not null, kind text not null, release text not null, version text not null,
    previous text, made_by text not null, manifest text not null default '', phase text not null,
    resumptions integer not null default 0, started integer not null, finished integer, problem text);
create index deployments_of_app on deployments (app, id);
create index deployments_of_manifest on deployments (app, manifest);
create table events (
    deployment text not null references deployments (id), seq integer not null, line blob not null,
    primary key (deployment, seq)) without rowid;
create table releases (
    app text not null, id text not null, version text not null, standing text not null,
    created integer not null, pinned integer not null default 0, venv text not null default '',
    made_by text not null default '', primary key (app, id)) without rowid;
create table accepted (app text primary key, created integer not null) without rowid;
"""
SCHEMAS = (_TABLES, records.SCHEMA, marks.SCHEMA, tallies.SCHEMA, notices.SCHEMA)
"""What makes the journal of each version from the one before."""
_RELEASES = "select * from releases where app = ? order by id"
_NEWEST = (
    "select max(created) as newest from (select created from accepted where app = ?1"
    " union all select created from releases where app = ?1)"
)
_OF_MANIFEST = (
    "select * from deployments where app = ? and manifest = ? and kind = 'deploy' order by id desc limit 1"
)
_SINCE = "select * from deployments where app = ? and id > ? and finished is not null order by id"
HISTORY = 200
"""How many deployments of an app keep their events; the deployments themselves stay."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """What an app that follows a channel knows of its past.

    `known` are those of the wanted manifests that were deployed here; `past` are the deployments that have ended
    since, oldest first.
    """

    releases: list[Release]
    newest_accepted: int | None
    known: frozenset[str]
    past: list[Record]


class Journal:
    """The journal of one host. Times are ms since 1970. Every coroutine may raise Failed(disk_full, disk_error).

    `history` is how many deployments of an app keep their events; `database` opens the file. `notify` has the
    ways to tell others how a deployment ended, each with the endings it is for; `notices` are those that wait.
    """

    def __init__(
        self,
        path: Path,
        *,
        history: int = HISTORY,
        database: type[Database] = Database,
        notify: Mapping[str, Collection[Ending]] | None = None,
    ) -> None:
        self._database = database(path, schemas=SCHEMAS)
        self._history = history
        self.notices = NoticeQueue(self._database, notify or {})
        self._audited: dict[str, tuple[int, str]] = {}
        self._tallied: dict[str, tuple[tuple[int, int], Tally]] = {}

    async def open(self) -> dict[str, int]:
        """Open it; make it if there is none. Raises: also Failed(configuration), if a newer agent wrote it.

        Returns the apps whose history begins only now, each with its number of deployments before.
        """
        await self._database.open()
        return await self._database.write(records.begin_all)

    async def close(self) -> None:
        """Close it. A later call raises RuntimeError."""
        await self._database.close()

    async def begin(self, attempt: Attempt, *, manifest: str, created: int, now: int) -> None:
        """Record that a deployment was accepted; for a deploy, also its release and the app's newest `created`."""

        made = created if attempt.kind is Kind.DEPLOY else None

        def write(db: sqlite3.Connection) -> None:
            facts = {**asdict(attempt), "manifest": manifest, "started": now}
            records.append(db, attempt.app, What.BEGUN, **_begun(facts), created=made)
            db.execute(
                "insert into deployments"
                " (id, app, kind, release, version, previous, made_by, manifest, phase, started)"
                " values (:id, :app, :kind, :release, :version, :previous, :by, :manifest, :phase, :started)",
                {**facts, "phase": Phase.VERIFIED},
            )
            if attempt.kind is Kind.DEPLOY:
                db.execute(
                    "insert into releases (app, id, version, standing, created, made_by)"
                    " values (?, ?, ?, ?, ?, ?)",
                    (attempt.app, attempt.release, attempt.version, Standing.CANDIDATE, created, attempt.by),
                )
                db.execute(
                    "insert into accepted values (?1, ?2) on conflict do update set created = max(created, ?2)",
                    (attempt.app, created),
                )

        await self._database.write(write)

    async def note(
        self,
        deployment: str,
        *,
        events: Sequence[Event] = (),
        phase: Phase | None = None,
        resumptions: int | None = None,
    ) -> None:
        """Add events to a deployment and, in the same transaction, move it to `phase`."""

        def write(db: sqlite3.Connection) -> None:
            _add_events(db, deployment, events)
            if phase is not None:
                db.execute("update deployments set phase = ? where id = ?", (phase, deployment))
            if resumptions is not None:
                db.execute("update deployments set resumptions = ? where id = ?", (resumptions, deployment))

        await self._database.write(write)

    async def stand(
        self,
        attempt: Attempt,
        standings: dict[str, Standing],
        *,
        phase: Phase | None = None,
        events: Sequence[Event] = (),
    ) -> Head:
        """Change the standing of releases and the deployment's phase, in one transaction. The history's head."""

        def write(db: sqlite3.Connection) -> Head:
            for release, standing in standings.items():
                db.execute(
                    "update releases set standing = ? where app = ? and id = ?",
                    (standing, attempt.app, release),
                )
            if phase is not None:
                db.execute("update deployments set phase = ? where id = ?", (phase, attempt.id))
            _add_events(db, attempt.id, events)
            return records.append(db, attempt.app, What.STANDS, deployment=attempt.id, standings=standings)

        return await self._database.write(write)

    async def finish(
        self,
        attempt: Attempt,
        phase: Phase,
        *,
        now: int,
        problem: Problem | None,
        events: Sequence[Event] = (),
        standing: Standing | None = None,
        forget: bool = False,
    ) -> Head:
        """End a deployment, with its last events. Its release gets this `standing`, or is forgotten.

        Returns the head of the history.
        """
        deployment = attempt.id
        document = json.dumps(problem.to_document()) if problem else None

        def write(db: sqlite3.Connection) -> Head:
            db.execute(
                "update deployments set phase = ?, finished = ?, problem = ? where id = ?",
                (phase, now, document, deployment),
            )
            _add_events(db, deployment, events)
            release = (attempt.app, attempt.release)
            if standing is not None:
                db.execute("update releases set standing = ? where app = ? and id = ?", (standing, *release))
            if forget:
                db.execute("delete from releases where app = ? and id = ?", release)
            self.notices.add(db, deployment, ending(attempt.kind, phase))
            return records.append(
                db,
                attempt.app,
                What.ENDED,
                id=deployment,
                phase=phase,
                finished=now,
                problem=records.problem_digest(document),
                events=records.events_digest(db, deployment),
                standing=standing,
                forget=forget,
            )

        head = await self._database.write(write)
        self.notices.announce()
        return head

    async def adopt(self, app: str, releases: Iterable[Release]) -> None:
        """Add releases that were found on disk; known ones stay as they are."""
        found = {one.id: one for one in releases}

        def write(db: sqlite3.Connection) -> None:
            rows = db.execute("select id from releases where app = ?", (app,))
            new = [found[one] for one in sorted(found.keys() - {row["id"] for row in rows})]
            if new:
                records.append(db, app, What.FOUND, releases=[_found(one) for one in new])
            db.executemany(
                "insert into releases (app, id, version, standing, created, venv, made_by)"
                " values (?, ?, ?, ?, ?, ?, ?)",
                [(app, one.id, one.version, one.standing, one.created, one.venv, one.by) for one in new],
            )

        await self._database.write(write)

    async def forget(self, app: str, release: str) -> None:
        """Drop a release: it is no longer on disk."""

        def write(db: sqlite3.Connection) -> None:
            if db.execute("delete from releases where app = ? and id = ?", (app, release)).rowcount:
                records.append(db, app, What.GONE, release=release)

        await self._database.write(write)

    async def set_venv(self, app: str, release: str, key: str) -> None:
        """Record which venv a release needs."""
        await self._database.write(
            lambda db: db.execute("update releases set venv = ? where app = ? and id = ?", (key, app, release))
        )

    async def pin(self, app: str, release: str, *, pinned: bool, by: str) -> bool:
        """Pin or unpin a release; False if there is no such release. `by` is who asked for it."""

        def write(db: sqlite3.Connection) -> bool:
            change = "update releases set pinned = ? where app = ? and id = ?"
            if not db.execute(change, (pinned, app, release)).rowcount:
                return False
            records.append(db, app, What.PINNED, release=release, pinned=pinned, by=by)
            return True

        return await self._database.write(write)

    async def command_began(self, app: str, run: str, *, by: str, release: str, command: str, now: int) -> None:
        """Record that a person runs a command in a release. `run` names it for `command_ended`."""
        facts = {"run": run, "by": by, "release": release, "command": command, "time": now}
        await self._database.write(lambda db: records.append(db, app, What.COMMAND, **facts))

    async def command_ended(self, app: str, run: str, *, code: int, now: int) -> None:
        """Record how such a command has ended."""
        await self._database.write(lambda db: records.append(db, app, What.EXITED, run=run, code=code, time=now))

    async def trim(self, app: str) -> None:
        """Drop the events of all but the newest deployments; the deployments stay."""
        await self._database.write(
            lambda db: db.execute(
                "delete from events where deployment in (select id from deployments where app = ?"
                " order by id desc limit -1 offset ?)",
                (app, self._history),
            )
        )

    async def releases(self, app: str) -> list[Release]:
        """Every release of an app that is on disk or being built, oldest first."""
        return [_release(row) for row in await self._database.read(_RELEASES, (app,))]

    async def newest_accepted(self, app: str) -> int | None:
        """The newest `created` of an accepted manifest or of a release on disk; None if there is none."""
        rows = await self._database.read(_NEWEST, (app,))
        newest = rows[0]["newest"]
        return None if newest is None else int(newest)

    async def unfinished(self, app: str) -> list[Record]:
        """The deployments that no agent has ended, oldest first."""
        return await self._records("where app = ? and finished is null order by id", (app,))

    async def deployment(self, deployment: str) -> Record | None:
        """The deployment of this id, if there is one."""
        return next(iter(await self._records("where id = ?", (deployment,))), None)

    async def of_manifest(self, app: str, manifest: str) -> Record | None:
        """The newest deployment of a manifest, which is named by its SHA-256 (hex). Rollbacks do not count."""
        found = await self._database.read(_OF_MANIFEST, (app, manifest))
        return _record(found[0]) if found else None

    async def went_live(self, app: str, release: str) -> Record | None:
        """The newest deployment that made a release live."""
        where = "where app = ? and release = ? and phase = 'done' order by id desc limit 1"
        return next(iter(await self._records(where, (app, release))), None)

    async def history(self, app: str, *, most: int) -> list[Record]:
        """At most `most` deployments, newest first."""
        return await self._records("where app = ? order by id desc limit ?", (app, most))

    async def subscribed(self, app: str, *, wanted: Collection[str], after: str) -> Subscribed:
        """What an app that follows a channel knows of its past: see `Subscribed`. `after` is a deployment's id.

        All of it at once: an agent asks at each poll, and to ask one by one wakes its processor as often.
        """

        def ask(db: sqlite3.Connection) -> Subscribed:
            newest = db.execute(_NEWEST, (app,)).fetchone()["newest"]
            deploys = (db.execute(_OF_MANIFEST, (app, one)).fetchone() for one in wanted)
            return Subscribed(
                releases=[_release(row) for row in db.execute(_RELEASES, (app,))],
                newest_accepted=newest,
                known=frozenset(row["manifest"] for row in deploys if row is not None),
                past=[_record(row) for row in db.execute(_SINCE, (app, after))],
            )

        return await self._database.inspect(ask)

    async def tally(self, app: str) -> Tally:
        """How many deployments ended how since the journal's beginning, and how long they and their steps took.

        What was counted last counts until something is written, by this agent or by another hand.
        """

        def tally(db: sqlite3.Connection) -> Tally:
            (version,) = db.execute("pragma data_version").fetchone()
            written = version, db.total_changes
            known = self._tallied.get(app)
            if known is None or known[0] != written:
                self._tallied[app] = known = written, tallies.read(db, app)
            return known[1]

        return await self._database.inspect(tally)

    async def mark(self, app: str, channel: str) -> tuple[Mark | None, str]:
        """The newest document that was accepted for a channel; and the app's newest deployment, empty if none."""

        def ask(db: sqlite3.Connection) -> tuple[Mark | None, str]:
            newest = db.execute("select max(id) as id from deployments where app = ?", (app,)).fetchone()["id"]
            return marks.read(db, app, channel), newest or ""

        return await self._database.inspect(ask)

    async def set_mark(self, app: str, channel: str, mark: Mark) -> None:
        """Record the newest document that was accepted for a channel."""
        await self._database.write(lambda db: marks.write(db, app, channel, mark))

    async def ids(self, app: str) -> list[str]:
        """The ids of every deployment that ever was, and of every release."""
        rows = await self._database.read(
            "select id from deployments where app = ?1 union select id from releases where app = ?1", (app,)
        )
        return [row["id"] for row in rows]

    async def events(self, deployment: str, *, after: int = 0) -> list[Event]:
        """The events of a deployment whose `seq` is above `after`, in order."""
        rows = await self._database.read(
            "select line from events where deployment = ? and seq > ? order by seq", (deployment, after)
        )
        return [Event.from_line(row["line"]) for row in rows]

    async def head(self, app: str) -> Head:
        """The head of an app's history."""
        return await self._database.inspect(lambda db: records.head(db, app))

    async def records(self, app: str, *, after: int, most: int) -> list[bytes]:
        """At most `most` records of an app's history, those after the one of this number, in order."""
        rows = await self._database.read(
            "select line from history where app = ? and record > ? order by record limit ?", (app, after, most)
        )
        return [bytes(row["line"]) for row in rows]

    async def audit(self, app: str) -> str:
        """The first sign that an app's history was changed by another hand; empty if there is none.

        What was found last counts as long as nobody else has written to the file. The events of deployments, and
        bytes that were changed beneath SQLite, are left to `pusher-agent check`.
        """

        def audit(db: sqlite3.Connection) -> str:
            # It changes when another connection has written to the file (SQLite, PRAGMA data_version).
            (version,) = db.execute("pragma data_version").fetchone()
            known = self._audited.get(app)
            if known is None or known[0] != version:
                self._audited[app] = known = version, records.audit(db, app, events=False)
            return known[1]

        return await self._database.inspect(audit)

    async def _records(self, where: str, values: Sequence[Any]) -> list[Record]:
        query = f"select * from deployments {where}"  # noqa: S608 - `where` is always a literal of this file
        return [_record(row) for row in await self._database.read(query, values)]


def _add_events(db: sqlite3.Connection, deployment: str, events: Iterable[Event]) -> None:
    for event in events:
        row = (deployment, event.seq, event.to_line())
        if db.execute("insert into events values (?, ?, ?) on conflict do nothing", row).rowcount:
            tallies.count(db, deployment, event)


def _begun(facts: Mapping[str, Any]) -> dict[str, Any]:
    """As `agent.host.storage.history.deployment_facts`, of a deployment that has no row yet."""
    return {
        key: facts[key] for key in ("id", "kind", "release", "version", "previous", "manifest", "started", "by")
    }


def _found(one: Release) -> dict[str, Any]:
    return {
        "id": one.id,
        "version": one.version,
        "standing": one.standing.value,
        "created": one.created,
        "pinned": False,
        "by": one.by,
    }


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
