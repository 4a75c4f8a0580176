"""The journal: which deployments were begun, how far each came, and which releases are good.

Invariant: a method that returned has been flushed to disk; one that raised has changed nothing.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.core.channel import Mark
from agent.core.history import What
from agent.core.notice import Ending, ending
from agent.core.phases import Phase
from agent.core.plan import Attempt, Kind
from agent.core.releases import Release, Standing
from agent.core.tally import Tally
from agent.host.storage import deployments, history, marks, notices, releases, tallies
from agent.host.storage.database import Database
from agent.host.storage.deployments import Record
from agent.host.storage.notices import NoticeQueue
from pusher.wire import Event, Head, Problem

SCHEMAS = (
    deployments.SCHEMA + releases.SCHEMA,
    history.SCHEMA,
    marks.SCHEMA,
    tallies.SCHEMA,
    notices.SCHEMA,
)
"""What makes the journal of each version from the one before."""

HISTORY = 200
"""How many deployments of an app keep their events; the deployments themselves stay."""


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
        return await self._database.write(history.begin_all)

    async def close(self) -> None:
        """Close it. A later call raises RuntimeError."""
        await self._database.close()

    async def begin(self, attempt: Attempt, *, manifest: str, created: int, now: int) -> None:
        """Record that a deployment was accepted; for a deploy, also its release and the app's newest `created`."""

        def write(db: sqlite3.Connection) -> None:
            deploy = attempt.kind is Kind.DEPLOY
            facts = history.begun_facts(attempt, manifest=manifest, started=now)
            history.append(db, attempt.app, What.BEGUN, **facts, created=created if deploy else None)
            deployments.begin(db, attempt, manifest=manifest, now=now)
            if deploy:
                candidate = Release(
                    id=attempt.release,
                    version=attempt.version,
                    standing=Standing.CANDIDATE,
                    created=created,
                    by=attempt.by,
                )
                releases.add(db, attempt.app, [candidate])
                releases.accept(db, attempt.app, created)

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
            deployments.add_events(db, deployment, events)
            if phase is not None:
                deployments.set_phase(db, deployment, phase)
            if resumptions is not None:
                deployments.set_resumptions(db, deployment, resumptions)

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
            releases.set_standings(db, attempt.app, standings)
            if phase is not None:
                deployments.set_phase(db, attempt.id, phase)
            deployments.add_events(db, attempt.id, events)
            return history.append(db, attempt.app, What.STANDS, deployment=attempt.id, standings=standings)

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
            deployments.end(db, deployment, phase, now=now, problem=document)
            deployments.add_events(db, deployment, events)
            if standing is not None:
                releases.set_standings(db, attempt.app, {attempt.release: standing})
            if forget:
                releases.forget(db, attempt.app, attempt.release)
            self.notices.add(db, deployment, ending(attempt.kind, phase))
            return history.append(
                db,
                attempt.app,
                What.ENDED,
                id=deployment,
                phase=phase,
                finished=now,
                problem=history.problem_digest(document),
                events=history.events_digest(db, deployment),
                standing=standing,
                forget=forget,
            )

        head = await self._database.write(write)
        self.notices.announce()
        return head

    async def adopt(self, app: str, found: Iterable[Release]) -> None:
        """Add releases that were found on disk; known ones stay as they are."""
        by_id = {one.id: one for one in found}

        def write(db: sqlite3.Connection) -> None:
            known = {one.id for one in releases.read(db, app)}
            new = [by_id[one] for one in sorted(by_id.keys() - known)]
            if new:
                history.append(db, app, What.FOUND, releases=[history.found_facts(one) for one in new])
                releases.add(db, app, new)

        await self._database.write(write)

    async def forget(self, app: str, release: str) -> None:
        """Drop a release: it is no longer on disk."""

        def write(db: sqlite3.Connection) -> None:
            if releases.forget(db, app, release):
                history.append(db, app, What.GONE, release=release)

        await self._database.write(write)

    async def set_venv(self, app: str, release: str, key: str) -> None:
        """Record which venv a release needs."""
        await self._database.write(lambda db: releases.set_venv(db, app, release, key))

    async def pin(self, app: str, release: str, *, pinned: bool, by: str) -> bool:
        """Pin or unpin a release; False if there is no such release. `by` is who asked for it."""

        def write(db: sqlite3.Connection) -> bool:
            if not releases.pin(db, app, release, pinned=pinned):
                return False
            history.append(db, app, What.PINNED, release=release, pinned=pinned, by=by)
            return True

        return await self._database.write(write)

    async def command_began(self, app: str, run: str, *, by: str, release: str, command: str, now: int) -> None:
        """Record that a person runs a command in a release. `run` names it for `command_ended`."""
        facts = {"run": run, "by": by, "release": release, "command": command, "time": now}
        await self._database.write(lambda db: history.append(db, app, What.COMMAND, **facts))

    async def command_ended(self, app: str, run: str, *, code: int, now: int) -> None:
        """Record how such a command has ended."""
        await self._database.write(lambda db: history.append(db, app, What.EXITED, run=run, code=code, time=now))

    async def trim(self, app: str) -> None:
        """Drop the events of all but the newest deployments; the deployments stay."""
        await self._database.write(lambda db: deployments.trim(db, app, keep=self._history))

    async def releases(self, app: str) -> list[Release]:
        """Every release of an app that is on disk or being built, oldest first."""
        return await self._database.inspect(lambda db: releases.read(db, app))

    async def newest_accepted(self, app: str) -> int | None:
        """The newest `created` of an accepted manifest or of a release on disk; None if there is none."""
        return await self._database.inspect(lambda db: releases.newest_accepted(db, app))

    async def unfinished(self, app: str) -> list[Record]:
        """The deployments that no agent has ended, oldest first."""
        return await self._database.inspect(lambda db: deployments.unfinished(db, app))

    async def deployment(self, deployment: str) -> Record | None:
        """The deployment of this id, if there is one."""
        return await self._database.inspect(lambda db: deployments.find(db, deployment))

    async def of_manifest(self, app: str, manifest: str) -> Record | None:
        """The newest deployment of a manifest, which is named by its SHA-256 (hex). Rollbacks do not count."""
        return await self._database.inspect(lambda db: deployments.of_manifest(db, app, manifest))

    async def went_live(self, app: str, release: str) -> Record | None:
        """The newest deployment that made a release live."""
        return await self._database.inspect(lambda db: deployments.went_live(db, app, release))

    async def history(self, app: str, *, most: int) -> list[Record]:
        """At most `most` deployments, newest first."""
        return await self._database.inspect(lambda db: deployments.newest(db, app, most=most))

    async def subscribed(self, app: str, *, wanted: Collection[str], after: str) -> Subscribed:
        """What an app that follows a channel knows of its past: see `Subscribed`. `after` is a deployment's id.

        All of it at once: an agent asks at each poll, and to ask one by one wakes its processor as often.
        """

        def ask(db: sqlite3.Connection) -> Subscribed:
            deploys = (deployments.of_manifest(db, app, one) for one in wanted)
            return Subscribed(
                releases=releases.read(db, app),
                newest_accepted=releases.newest_accepted(db, app),
                known=frozenset(one.manifest for one in deploys if one is not None),
                past=deployments.ended_since(db, app, after),
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
            return marks.read(db, app, channel), deployments.newest_id(db, app)

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
        return await self._database.inspect(lambda db: deployments.events(db, deployment, after=after))

    async def head(self, app: str) -> Head:
        """The head of an app's history."""
        return await self._database.inspect(lambda db: history.head(db, app))

    async def records(self, app: str, *, after: int, most: int) -> list[bytes]:
        """At most `most` records of an app's history, those after the one of this number, in order."""
        return await self._database.inspect(lambda db: history.read(db, app, after=after, most=most))

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
                self._audited[app] = known = version, history.audit(db, app, events=False)
            return known[1]

        return await self._database.inspect(audit)
