"""When the app ends by itself, and when its agent is killed."""

import asyncio
import os
import resource
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from agent.host.embedded.service import Delays
from agent.host.run import process
from pusher.wire import Code, Failed, Problem
from tests.deploy.embedded_place import ME, REPOSITORY, Impatient, Place, alive, point, until, well


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_an_app_that_ends_by_itself_is_restarted_and_visitors_wait(place: Place) -> None:
    place.clock = Impatient()
    async with place.running() as service:
        first = await service.restart(place.release("v1"))
        await well(first)
        os.kill(first.child.pid, signal.SIGKILL)
        assert await first.wait() == "signal 9 (KILL)"
        assert (await place.ask())["pid"] != first.child.pid
        await until(lambda: len(place.recorded()) == 2)
        assert service.running() is not first
        assert place.clock.pauses == [1.0]


async def test_pauses_grow_while_an_app_does_not_stay_up(place: Place) -> None:
    place.clock = clock = Impatient()
    async with place.running(start="python app.py --die") as service:
        first = await service.restart(place.release("v1"))
        with pytest.raises(Failed) as caught:
            await well(first)
        assert (caught.value.code, caught.value.why) == (Code.APP_EXITED, "exit code 3")
        await until(lambda: len(clock.pauses) > 7)
        assert clock.pauses[:7] == [1, 2, 4, 8, 16, 30, 30]


async def test_pauses_are_short_again_after_the_app_has_stayed_up(place: Place) -> None:
    place.clock = clock = Impatient()
    place.delays = Delays(stayed_up_s=0.0)
    async with place.running(start="python app.py --die") as service:
        await service.restart(place.release("v1"))
        await until(lambda: len(clock.pauses) > 3)
        assert set(clock.pauses) == {1}


async def test_an_app_that_cannot_be_restarted_is_retried_until_it_can(place: Place) -> None:
    place.clock = clock = Impatient()
    async with place.running() as service:
        placed = place.release("v1")
        first = await service.restart(placed)
        await well(first)
        program = placed.path / "venv/bin/python"
        program.rename(placed.path / "hidden")
        os.kill(first.child.pid, signal.SIGKILL)
        await until(lambda: len(clock.pauses) > 2)
        assert service.running() is None
        (placed.path / "hidden").rename(program)
        assert (await place.ask())["version"] == "v1"


async def test_an_app_comes_back_when_there_were_no_descriptors_for_a_while(place: Place) -> None:
    place.clock = clock = Impatient()
    async with place.running() as service:
        first = await service.restart(place.release("v1"))
        await well(first)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            os.kill(first.child.pid, signal.SIGKILL)
            await until(lambda: len(clock.pauses) > 2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert (await place.ask())["version"] == "v1"


async def test_stopping_during_a_pause_starts_nothing(place: Place) -> None:
    async with place.running() as service:
        first = await service.restart(place.release("v1"))
        os.kill(first.child.pid, signal.SIGKILL)
        await first.wait()
    assert service.running() is None
    assert place.recorded() == []


async def test_a_stop_in_the_middle_of_a_restart_leaves_nothing_running(place: Place) -> None:
    started: list[process.Child] = []
    second = asyncio.Event()

    async def start(*argv: Any, **how: Any) -> process.Child:
        started.append(await process.start(*argv, **how))
        if len(started) == 2:
            second.set()
        return started[-1]

    place.clock, place.start = Impatient(), start
    async with place.running() as service:
        first = await service.restart(place.release("v1"))
        os.kill(first.child.pid, signal.SIGKILL)
        await second.wait()
    assert [child.ended() for child in started] == [True, True]
    assert place.recorded() == []


AGENT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from agent.core.config.app import AppConfig
from agent.core.layout import HostLayout
from agent.host.clock import SystemClock
from agent.host.embedded.service import Embedded
from agent.host.ports import Placed
from agent.host.releases.run_files import read_run

async def main():
    config = AppConfig.model_validate({config!r})
    service = Embedded("demo", config, host=HostLayout(Path({root!r})), clock=SystemClock(), line=lambda _: None)
    path = Path({path!r})
    running = await service.restart(Placed({release!r}, "v1", path, read_run(path)))
    print(running.child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def killed_agent(place: Place, *, start: str) -> int:
    """An agent that started the app and was killed with SIGKILL. Returns the app's process."""
    place.command = start
    placed = place.release("v1")
    point(place.current, placed.path)
    config = {"path": "/opt/demo", "user": ME, "listen": f"127.0.0.1:{place.port}"}
    code = textwrap.dedent(AGENT).format(
        repository=str(REPOSITORY),
        config=config,
        root=str(place.root),
        release=placed.release,
        path=str(placed.path),
    )
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    try:
        pid = int(await agent.stdout.readline())
        seen = await place.ask()
        assert seen["pid"] == pid
    finally:
        agent.kill()
        await agent.wait()
    return pid


async def test_the_app_does_not_outlive_its_agent(place: Place) -> None:
    pid = await killed_agent(place, start="python app.py")
    await until(lambda: not alive(pid))


async def test_an_app_that_outlived_it_is_ended_before_anything_is_started(place: Place) -> None:
    pid = await killed_agent(place, start="python app.py --deaf")
    assert alive(pid)
    (place.host.run / "demo/preflight-1.sock").touch()
    second = place.release("v2")
    async with place.running(drain_s=0.2) as service:
        await service.reserve()
        assert not alive(pid)
        await well(await service.restart(second))
        assert (await place.ask())["version"] == "v2"
        assert len(place.recorded()) == 2


async def test_stopping_ends_what_outlived_an_agent(place: Place) -> None:
    pid = await killed_agent(place, start="python app.py --deaf")
    await place.service(drain_s=0.2).stop()
    assert not alive(pid)
    assert place.recorded() == []


async def test_a_record_that_cannot_be_written_keeps_no_app_from_starting(place: Place) -> None:
    async with place.running() as service:
        await service.reserve()
        (place.host.run / "demo").rmdir()
        await well(await service.restart(place.release("v1")))
        (place.host.run / "demo").mkdir()


async def test_a_run_folder_that_cannot_be_made_is_a_problem_not_a_traceback(place: Place) -> None:
    place.host.run.parent.mkdir(parents=True)
    place.host.run.write_text("in the way")
    with pytest.raises(Problem, match="could not be started"):
        await place.service().reserve()
    place.host.run.unlink()
