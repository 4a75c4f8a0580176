"""The journal: durable at every return, and strict about what it can read."""

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.channel import Mark
from agent.core.phases import Phase
from agent.core.plan import Attempt, Kind
from agent.core.releases import Release, Standing
from agent.host.storage.journal import Journal
from pusher.wire import Code, Event, Failed, Happened

NOW = 1_795_399_255_000


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite")
    await opened.open()
    yield opened
    await opened.close()


def attempt(number: int = 1, *, kind: Kind = Kind.DEPLOY, app: str = "flask-demo") -> Attempt:
    time = f"2026112302{number:04d}Z"
    return Attempt(
        id=f"{app}-{time}",
        app=app,
        kind=kind,
        release=time,
        version=f"v{number}",
        previous=None,
        by="alice",
    )


async def begin(journal: Journal, one: Attempt, *, created: int = NOW, manifest: str = "m") -> None:
    await journal.begin(one, manifest=manifest, created=created, now=NOW)


async def test_what_was_begun_is_there_after_the_journal_is_opened_again(tmp_path):
    first = Journal(tmp_path / "journal.sqlite")
    await first.open()
    await begin(first, attempt())
    await first.note(
        attempt().id, phase=Phase.SWITCHING, events=[Event(1, NOW, Happened.STARTED, {"by": "alice"})]
    )
    await first.close()
    second = Journal(tmp_path / "journal.sqlite")
    await second.open()
    (record,) = await second.unfinished("flask-demo")
    assert record.attempt == replace(attempt(), manifest="m")
    assert record.phase is Phase.SWITCHING
    assert [event.data["by"] for event in await second.events(attempt().id)] == ["alice"]
    await second.close()


async def test_a_deploy_adds_a_candidate_and_moves_the_newest_accepted_time(journal):
    assert await journal.newest_accepted("flask-demo") is None
    await begin(journal, attempt(1), created=NOW)
    await begin(journal, attempt(2), created=NOW - 5)
    assert await journal.newest_accepted("flask-demo") == NOW
    assert [(one.id, one.standing) for one in await journal.releases("flask-demo")] == [
        (attempt(1).release, Standing.CANDIDATE),
        (attempt(2).release, Standing.CANDIDATE),
    ]


async def test_a_deployment_takes_no_negative_time_when_the_clock_is_set_back_meanwhile(journal):
    await begin(journal, attempt())
    (record,) = await journal.history("flask-demo", most=1)
    assert record.ms is None
    await journal.finish(attempt(), Phase.DONE, now=NOW - 3_600_000, problem=None)
    (record,) = await journal.history("flask-demo", most=1)
    assert record.ms == 0


async def test_a_rollback_adds_no_release_and_does_not_touch_the_newest_accepted_time(journal):
    await journal.begin(attempt(kind=Kind.ROLLBACK), manifest="", created=0, now=NOW)
    assert await journal.releases("flask-demo") == []
    assert await journal.newest_accepted("flask-demo") is None


async def test_the_newest_accepted_time_is_never_below_that_of_a_release_found_on_disk(journal):
    found = Release(id="20261123020000Z", version="v1", standing=Standing.GOOD, created=NOW + 7)
    await journal.adopt("flask-demo", [found, found])
    assert await journal.newest_accepted("flask-demo") == NOW + 7
    assert await journal.releases("flask-demo") == [found]


async def test_commit_changes_standings_and_phase_together(journal):
    await begin(journal, attempt(1))
    await begin(journal, attempt(2))
    await journal.stand(
        attempt(2),
        {attempt(1).release: Standing.WITHDRAWN, attempt(2).release: Standing.GOOD},
        phase=Phase.COMMITTED,
        events=[Event(1, NOW, Happened.STARTED)],
    )
    standings = {one.version: one.standing for one in await journal.releases("flask-demo")}
    assert standings == {"v1": Standing.WITHDRAWN, "v2": Standing.GOOD}
    record = await journal.deployment(attempt(2).id)
    assert record is not None
    assert record.phase is Phase.COMMITTED


async def test_a_finished_deployment_keeps_its_problem_and_is_found_by_its_manifest(journal):
    await begin(journal, attempt(1), manifest="abc")
    problem = Failed(Code.HOOK_FAILED, "The hook failed", output="lines")
    event = Event(1, NOW, Happened.FINISHED, {"outcome": "failed"})
    await journal.finish(attempt(1), Phase.FAILED, now=NOW + 5, problem=problem, events=[event])
    record = await journal.of_manifest("flask-demo", "abc")
    assert record is not None
    assert record.problem is not None
    assert (record.finished, record.problem["output"]) == (NOW + 5, "lines")
    assert await journal.unfinished("flask-demo") == []
    assert await journal.of_manifest("flask-demo", "other") is None
    assert await journal.events(attempt(1).id, after=1) == []


async def test_resumptions_are_counted(journal):
    await begin(journal, attempt())
    await journal.note(attempt().id, resumptions=2)
    assert [one.resumptions for one in await journal.unfinished("flask-demo")] == [2]


async def test_pins_and_venvs_stay_with_their_release_and_go_with_it(journal):
    await begin(journal, attempt())
    assert await journal.pin("flask-demo", attempt().release, pinned=True, by="alice")
    assert not await journal.pin("flask-demo", "20200101000000Z", pinned=True, by="alice")
    await journal.set_venv("flask-demo", attempt().release, "key")
    (release,) = await journal.releases("flask-demo")
    assert (release.pinned, release.venv, release.by) == (True, "key", "alice")
    await journal.forget("flask-demo", release.id)
    assert await journal.releases("flask-demo") == []
    assert await journal.ids("flask-demo") == [attempt().id]


async def test_apps_do_not_see_each_other(journal):
    await begin(journal, attempt())
    await begin(journal, attempt(2, app="other"))
    assert [one.attempt.app for one in await journal.history("other", most=9)] == ["other"]
    assert await journal.deployment("nothing-20261123020001Z") is None


async def test_old_events_go_and_their_deployments_stay(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite", history=1)
    await journal.open()
    for number in (1, 2):
        await begin(journal, attempt(number))
        await journal.note(attempt(number).id, events=[Event(1, NOW, Happened.STARTED)])
    await journal.trim("flask-demo")
    assert await journal.events(attempt(1).id) == []
    assert len(await journal.events(attempt(2).id)) == 1
    assert len(await journal.history("flask-demo", most=9)) == 2
    await journal.close()


async def test_a_journal_of_a_newer_agent_is_left_alone(tmp_path):
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("pragma user_version = 99")
    db.close()
    with pytest.raises(Failed, match="newer agent"):
        await Journal(path).open()


async def test_a_journal_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(Failed, match="could not be used") as caught:
        await Journal(tmp_path / "missing" / "journal.sqlite").open()
    assert caught.value.code is Code.DISK_ERROR


async def test_using_a_journal_that_is_not_open_is_our_own_bug(tmp_path):
    with pytest.raises(RuntimeError, match="not open"):
        await Journal(tmp_path / "journal.sqlite").releases("flask-demo")


async def test_the_mark_of_a_channel_outlives_the_agent(tmp_path: Path) -> None:
    mark = Mark(created=NOW, digest="d", manifest="m", attempt=2, seen=NOW, after="flask-demo-1")
    first = Journal(tmp_path / "journal.sqlite")
    await first.open()
    assert await first.mark("flask-demo", "stable") == (None, "")
    await first.set_mark("flask-demo", "stable", replace(mark, attempt=1))
    await first.set_mark("flask-demo", "stable", mark)
    await first.close()
    second = Journal(tmp_path / "journal.sqlite")
    await second.open()
    assert await second.mark("flask-demo", "stable") == (mark, "")
    assert await second.mark("flask-demo", "beta") == (None, "")
    await second.close()


async def test_the_deployments_since_another_one_are_those_that_have_ended(journal: Journal) -> None:
    for number in (1, 2, 3, 4):
        await begin(journal, attempt(number))
        if number != 3:
            await journal.finish(attempt(number), Phase.DONE, now=NOW, problem=None)
    found = await journal.subscribed("flask-demo", wanted=("abc", "other"), after=attempt(1).id)
    assert [one.attempt.version for one in found.past] == ["v2", "v4"]
    assert found.releases == await journal.releases("flask-demo")
    assert found.newest_accepted == await journal.newest_accepted("flask-demo")
    assert found.known == {one for one in ("abc", "other") if await journal.of_manifest("flask-demo", one)}
    assert (await journal.mark("flask-demo", "stable"))[1] == attempt(4).id
