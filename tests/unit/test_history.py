"""The history of an app: whatever another hand changes in it is found."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.phases import Phase
from agent.core.plan import Kind
from agent.core.releases import Release, Standing
from agent.host.storage.database import Database
from agent.host.storage.journal import SCHEMAS, Journal
from agent.host.storage.snapshot import snapshot
from pusher.wire import Code, Event, Failed, Happened, Head, Problem, WireError
from tests.unit.test_journal import NOW, attempt, begin

APP = "flask-demo"
EVENT = Event(1, NOW, Happened.STARTED, {"by": "alice"})


async def deploy(journal: Journal, number: int, *, problem: Problem | None = None) -> None:
    one = attempt(number)
    await begin(journal, one, created=NOW + number, manifest=f"m{number}")
    await journal.note(one.id, phase=Phase.CONFIRMING, events=[EVENT])
    if problem is None:
        await journal.stand(one, {one.release: Standing.GOOD}, phase=Phase.COMMITTED)
        await journal.finish(one, Phase.DONE, now=NOW, problem=None)
    else:
        await journal.finish(one, Phase.FAILED, now=NOW, problem=problem, standing=Standing.FAILED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    """Everything that a history has: what went well, failed, was pinned, found, lost, is unfinished."""
    opened = Journal(path)
    await opened.open()
    await deploy(opened, 1)
    await deploy(opened, 2, problem=Failed(Code.HOOK_FAILED, "The hook failed", output="lines"))
    await opened.adopt(APP, [Release(id="20261101000000Z", version="v0", standing=Standing.CANDIDATE, created=5)])
    await opened.adopt(APP, [Release(id="20261101000000Z", version="v0", standing=Standing.GOOD, created=5)])
    await opened.pin(APP, attempt(1).release, pinned=True, by="alice")
    await opened.pin(APP, "20200101000000Z", pinned=True, by="alice")
    await opened.forget(APP, "20261101000000Z")
    await opened.forget(APP, "20261101000000Z")
    await deploy(opened, 3)
    await begin(opened, attempt(4), created=NOW + 4)
    yield opened
    await opened.close()


def change(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(sql)


async def checked(path: Path) -> str:
    def check() -> str:
        with snapshot(path) as copy:
            return copy.audit(APP)

    return await asyncio.to_thread(check)


async def contains(path: Path, head: Head) -> bool:
    def look() -> bool:
        with snapshot(path) as copy:
            return copy.contains(APP, head)

    return await asyncio.to_thread(look)


async def known(path: Path) -> list[str]:
    def look() -> list[str]:
        with snapshot(path) as copy:
            return copy.apps()

    return await asyncio.to_thread(look)


async def test_a_command_is_a_record_that_no_table_follows_from(journal: Journal, path: Path) -> None:
    await journal.command_began(APP, "1", by="alice", release=attempt(3).release, command="flask shell", now=NOW)
    await journal.command_ended(APP, "1", code=3, now=NOW)
    assert (await journal.head(APP)).records == 15
    assert await checked(path) == ""


async def test_a_rollback_is_recorded_and_makes_no_release(journal: Journal, path: Path) -> None:
    one = attempt(5, kind=Kind.ROLLBACK)
    await journal.begin(one, manifest="", created=0, now=NOW)
    assert await checked(path) == ""
    assert await journal.audit(APP) == ""


async def test_a_history_that_nobody_touched_is_whole(journal: Journal, path: Path) -> None:
    assert await journal.audit(APP) == ""
    assert await checked(path) == ""
    head = await journal.head(APP)
    assert head.records == 13
    lines = await journal.records(APP, after=0, most=99)
    assert Head().leads_to(head, lines)
    seen = Head().then(*lines[:5])
    assert seen.leads_to(head, await journal.records(APP, after=5, most=99))
    assert not seen.leads_to(head, lines[6:])


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("update deployments set made_by = 'bob' where version = 'v1'", "its by is another one"),
        ("update deployments set problem = null where version = 'v2'", "its problem is another one"),
        ("update deployments set phase = 'done' where version = 'v2'", "its phase is another one"),
        ("update deployments set finished = 1 where version = 'v4'", "is not as it was recorded"),
        ("update deployments set finished = null where version = 'v1'", "is gone"),
        ("delete from deployments where version = 'v1'", "is gone"),
        (
            "insert into deployments select 'flask-demo-1', app, kind, release, version, previous, made_by,"
            " manifest, phase, 0, started, finished, problem from deployments where version = 'v1'",
            "the deployments from before the history began",
        ),
        (
            "insert into deployments select 'flask-demo-1', app, kind, release, version, previous, made_by,"
            " manifest, phase, 0, started, finished, problem from deployments where version = 'v4'",
            "is not as it was recorded",
        ),
        ("update releases set standing = 'good' where version = 'v2'", "its standing is another one"),
        ("update releases set pinned = 0", "its pinned is another one"),
        ("delete from releases where version = 'v3'", "is gone"),
        (
            "insert into releases (app, id, version, standing, created)"
            " values ('flask-demo', '1', 'v', 'good', 1)",
            "release 1 was never recorded",
        ),
        ("update accepted set created = 0", "newest accepted bundle"),
        ("update releases set standing = x'00ff'", "its standing is another one"),
        ("delete from history where record = 4", "record 4 is missing"),
        ("delete from history where record > 9", "is not as it was recorded"),
        ("delete from history", "its records are gone"),
        ("update history set line = '{}' where record = 3", "record 3 was changed"),
        ("update history set hash = upper(hash) where record = 3", "record 3 was changed"),
    ],
)
async def test_what_another_hand_changed_is_found(journal: Journal, path: Path, sql: str, found: str) -> None:
    assert await journal.audit(APP) == ""
    change(path, sql)
    assert found in await journal.audit(APP)
    assert found in await checked(path)


async def test_what_the_agent_itself_adds_needs_no_other_look_and_is_whole(journal: Journal, path: Path) -> None:
    assert await journal.audit(APP) == ""
    await deploy(journal, 5)
    assert await journal.audit(APP) == ""
    assert await checked(path) == ""


async def test_a_record_that_was_written_anew_with_its_hashes_does_not_fit_the_head_that_was_seen(
    journal: Journal, path: Path
) -> None:
    seen = await journal.head(APP)
    lines = await journal.records(APP, after=0, most=99)
    head = Head()
    with closing(sqlite3.connect(path)) as db, db:
        for line in lines:
            line = line.replace(b'"by":"alice"', b'"by":"mallo"')
            head = head.then(line)
            db.execute("update history set line = ?, hash = ? where record = ?", (line, head.hash, head.records))
        db.execute("update deployments set made_by = 'mallo'")
        db.execute("update releases set made_by = 'mallo' where made_by = 'alice'")
    assert await journal.audit(APP) == ""
    assert head.records == seen.records
    assert await journal.head(APP) != seen
    assert not await contains(path, seen)
    assert await contains(path, head)


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"what":"ended"}', b'{"what":"other"}', b"[" * 100_000])
async def test_a_record_that_says_nothing_is_named(journal: Journal, path: Path, line: bytes) -> None:
    head = (await journal.head(APP)).then(line)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("insert into history values (?, ?, ?, ?)", (APP, head.records, line, head.hash))
    assert await journal.audit(APP) == f"record {head.records} cannot be read"


async def test_changed_events_are_found_by_check_and_dropped_ones_are_no_change(
    journal: Journal, path: Path
) -> None:
    change(path, f"delete from events where deployment = '{attempt(1).id}'")
    assert await checked(path) == ""
    change(path, f"update events set line = '{{}}' where deployment = '{attempt(2).id}'")
    assert await checked(path) == f"the events of deployment {attempt(2).id} are other ones"


async def test_a_journal_that_is_older_than_histories_is_adopted_as_it_is_found(path: Path) -> None:
    old = Database(path, schemas=SCHEMAS[:1])
    await old.open()
    await old.close()
    change(
        path,
        "insert into deployments values ('flask-demo-1', 'flask-demo', 'deploy', '1', 'v1', null, 'alice', 'm',"
        " 'done', 0, 1, 2, null), ('flask-demo-2', 'flask-demo', 'deploy', '2', 'v2', '1', 'bob', 'n',"
        " 'confirming', 0, 3, null, null);"
        " insert into releases values ('flask-demo', '1', 'v1', 'good', 1, 0, '', 'alice'),"
        " ('flask-demo', '2', 'v2', 'candidate', 3, 0, '', 'bob'); insert into accepted values ('flask-demo', 3)",
    )
    assert await known(path) == []
    journal = Journal(path)
    assert await journal.open() == {APP: 2}
    assert await journal.audit(APP) == ""
    assert (await journal.head(APP)).records == 2
    (unfinished,) = await journal.unfinished(APP)
    await journal.finish(unfinished.attempt, Phase.FAILED, now=9, problem=None, forget=True)
    await deploy(journal, 3)
    assert await checked(path) == ""
    change(path, "update deployments set made_by = 'mallory' where id = 'flask-demo-1'")
    assert "before the history began" in await checked(path)
    await journal.close()
    again = Journal(path)
    assert await again.open() == {}
    await again.close()


async def test_the_history_of_another_app_is_its_own(journal: Journal) -> None:
    before = await journal.head(APP)
    await begin(journal, attempt(1, app="other"))
    assert await journal.head(APP) == before
    assert (await journal.head("other")).records == 2
    assert await journal.head("third") == Head()
    assert await journal.audit("third") == ""


def test_a_copy_of_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    (tmp_path / "link").symlink_to("text")
    for name in ("text", "link", "none", "."):
        with pytest.raises(OSError, match=r"."), snapshot(tmp_path / name) as copy:
            copy.apps()


@pytest.mark.parametrize("members", [{}, {"records": -1, "head": "0" * 64}, {"records": 1, "head": "x"}])
def test_a_head_of_another_form_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(WireError):
        Head.from_members(members)
