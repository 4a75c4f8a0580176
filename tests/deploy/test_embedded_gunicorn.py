"""The embedded service with real gunicorn, under requests."""

import asyncio
import time
from pathlib import Path

import pytest

from pusher.wire import Code, Failed
from tests.deploy.embedded_place import Place, well


@pytest.fixture
def flask(tmp_path: Path, flask_venv: Path) -> Place:
    return Place(tmp_path, venv=flask_venv)


@pytest.mark.network
@pytest.mark.slow
async def test_no_request_on_a_fresh_connection_fails_over_restarts(flask: Place) -> None:
    first, second = flask.release("v1"), flask.release("v2")
    answers: list[str] = []
    stop = asyncio.Event()

    async def visit() -> None:
        answers.append((await flask.ask())["version"])

    async def visitors() -> None:
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                group.create_task(visit())
                await asyncio.sleep(0.02)

    async with flask.running() as service:
        await well(await service.restart(first))
        load = asyncio.create_task(visitors())
        for placed in (second, first, second):
            candidate = await service.try_out(placed)
            await well(candidate)
            candidate.dismiss()
            await well(await service.restart(placed))
        stop.set()
        await load
    assert set(answers) == {"v1", "v2"}
    assert answers[-1] == "v2"


@pytest.mark.network
@pytest.mark.slow
async def test_a_long_request_in_flight_is_given_time_and_new_visitors_do_not_wait_for_it(flask: Place) -> None:
    first, second = flask.release("v1"), flask.release("v2")
    async with flask.running() as service:
        await well(await service.restart(first))
        long = asyncio.create_task(flask.ask("/slow/6.0"))
        await asyncio.sleep(0.2)
        await well(await service.restart(second))
        assert {(await flask.ask())["version"] for _ in range(20)} == {"v2"}
        assert not long.done()
        assert (await long)["version"] == "v1"


@pytest.mark.network
@pytest.mark.slow
async def test_a_request_that_exceeds_the_drain_is_cut_off(flask: Place) -> None:
    async with flask.running(drain_s=0.3) as service:
        before = await service.restart(flask.release("v1"))
        await well(before)
        long = asyncio.create_task(flask.ask("/slow/30.0"))
        await asyncio.sleep(0.2)
        await well(await service.restart(flask.release("v2")))
        with pytest.raises((AssertionError, ConnectionError)):
            await long
        assert await before.wait() == "another release took its place"
        assert any("has not ended within 0.3 s and is killed" in line for line in flask.lines)


@pytest.mark.network
async def test_an_app_that_cannot_be_imported_shows_its_traceback(flask: Place) -> None:
    placed = flask.release("v1")
    (placed.path / "app.py").write_text("import nothing_of_this_name\n")
    async with flask.running() as service:
        candidate = await service.try_out(placed)
        began = time.monotonic()
        with pytest.raises(Failed) as caught:
            await well(candidate)
        await candidate.end()
    assert time.monotonic() - began < 10
    assert caught.value.code is Code.APP_EXITED
    error = "ModuleNotFoundError: No module named 'nothing_of_this_name'"
    assert (caught.value.what, caught.value.why) == ("app:app does not import", f"{error} (app.py:1)")
    assert caught.value.output == f'  File "app.py", line 1, in <module>\n    import nothing_of_this_name\n{error}'


@pytest.mark.network
async def test_an_app_whose_workers_end_again_and_again_is_told_so(flask: Place) -> None:
    placed = flask.release("v1")
    (placed.path / "app.py").write_text("import sys\nprint('no site', flush=True)\nsys.exit(1)\n")
    async with flask.running() as service:
        candidate = await service.try_out(placed)
        with pytest.raises(Failed) as caught:
            await well(candidate, deadline_s=3)
        await candidate.end()
    assert caught.value.code is Code.APP_EXITED
    assert caught.value.why.endswith("others take their place, again and again: exit code 1")
    # Where two workers write at once, a line goes on with what another has written.
    lines = [one for one in caught.value.output.splitlines() if one]
    assert lines
    assert all("no site" in one for one in lines)
    assert len(lines) < 5
