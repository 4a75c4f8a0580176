"""The embedded service, with small real processes that speak LISTEN_FDS."""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent.core.config.app import AppConfig
from agent.host.embedded.service import Delays, Embedded
from agent.host.run import process
from pusher.wire import Code, Failed, Refused
from tests.deploy.embedded_place import CLOCK, ME, Impatient, Place, alive, point, until, well


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_an_app_gets_socket_folder_and_environment_and_nothing_else(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the agent")
    first = place.release("v1")
    async with place.running() as service:
        running = await service.restart(first)
        await well(running)
        seen = await place.ask()
        assert seen["cwd"] == str(first.path)
        assert seen["stdin"] == "/dev/null"
        assert set(seen["fds"]) <= {"0", "1", "2", "3", "4", "5"}
        assert seen["pid"] == seen["group"] == running.child.pid
        assert "SECRET" not in seen["env"]
        assert seen["env"]["PUSHER_RELEASE"] == first.release
        assert "PUSHER_PREFLIGHT" not in seen["env"]
        assert running.address == f"127.0.0.1:{place.port}"
        assert await running.tail() == "started v1"
        assert place.lines == ["demo | started v1"]


async def test_a_candidate_answers_on_a_private_socket_and_nothing_public_changes(place: Place) -> None:
    first, second = place.release("v1"), place.release("v2")
    async with place.running() as service:
        await well(await service.restart(first))
        candidate = await service.try_out(second)
        await well(candidate)
        assert candidate.address == f"unix:{place.host.run}/demo/preflight-1.sock"
        assert (await place.ask())["version"] == "v1"
        assert len(place.recorded()) == 4  # runner and app, candidate and its socket
        await candidate.end()
        assert not alive(candidate.child.pid)
        assert len(place.recorded()) == 2
        assert "demo (preflight) | started v2" in place.lines
        assert service.running().placed == first


async def test_a_candidate_that_did_well_is_dismissed_without_waiting(place: Place) -> None:
    async with place.running(start="python app.py --deaf", drain_s=0.3) as service:
        candidate = await service.try_out(place.release("v1"))
        await well(candidate)
        candidate.dismiss()
        await service.stop()
        assert not alive(candidate.child.pid)
        assert place.recorded() == []


async def test_a_candidate_whose_caller_is_cancelled_while_it_is_recorded_is_gone(place: Place) -> None:
    started: list[process.Child] = []
    free = threading.Event()

    async def start(*argv: Any, **how: Any) -> process.Child:
        started.append(await process.start(*argv, **how))
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))  # what is written from now on has to wait
        loop.run_in_executor(None, free.wait)
        return started[0]

    place.start = start
    async with place.running() as service:
        trying = asyncio.create_task(service.try_out(place.release("v1")))
        await until(lambda: started)
        await asyncio.sleep(0)
        trying.cancel()
        asyncio.get_running_loop().call_later(0.05, free.set)
        await asyncio.wait([trying])
        assert trying.cancelled()
        assert not alive(started[0].pid)
        assert place.recorded() == []


async def test_a_dismissed_candidate_is_gone_soon(place: Place) -> None:
    place.delays = Delays(dismissal_s=0.01)
    async with place.running() as service:
        candidate = await service.try_out(place.release("v1"))
        candidate.dismiss()
        assert await candidate.wait() == "signal 15 (TERM)"
        await until(lambda: place.recorded() == [])


async def test_a_candidate_lies_at_any_depth(tmp_path: Path) -> None:
    place = Place(tmp_path / ("x" * 100))
    async with place.running() as service:
        await well(await service.try_out(place.release("v1")))


async def test_the_default_line_goes_to_standard_error(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    config = AppConfig.model_validate(
        {"path": "/opt/demo", "user": ME, "listen": f"127.0.0.1:{place.port}", "start": "python app.py"}
    )
    service = Embedded("demo", config, host=place.host, clock=CLOCK)
    placed = place.release("v1")
    point(place.current, placed.path)
    await well(await service.restart(placed))
    await service.stop()
    assert capfd.readouterr().err == "demo | started v1\n"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_an_app_runs_as_its_own_user() -> None:
    # pytest's own folders are closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        place = Place(Path(folder))
        async with place.running(user="nobody") as service:
            await well(await service.restart(place.release("v1")))
            seen = await place.ask()
            assert seen["uid"] == pwd.getpwnam("nobody").pw_uid
            assert seen["env"]["USER"] == "nobody"


async def test_a_restart_ends_the_one_before_and_keeps_the_socket(place: Place) -> None:
    first, second = place.release("v1"), place.release("v2")
    async with place.running() as service:
        assert service.running() is None
        await service.reserve()
        await service.mend()
        early = asyncio.create_task(place.ask())
        before = await service.restart(first)
        assert (await early)["version"] == "v1", "a visitor before the app waited in the backlog"
        after = await service.restart(second)
        async with asyncio.timeout(30):
            await before.wait()  # it accepts nothing any more, and may still be on its way out
        assert not alive(before.child.pid)
        await well(after)
        assert service.running() is after
        assert (await place.ask())["version"] == "v2"
    assert service.running() is None
    assert place.recorded() == []
    with pytest.raises(ConnectionRefusedError):
        await place.ask()
    await service.stop()


async def test_a_runner_that_somebody_lets_reload_is_not_left_beside_another(place: Place) -> None:
    place.clock = Impatient()
    async with place.running() as service:
        before = await service.restart(place.release("v1"))
        await well(before)
        (runner,) = {int(one.removesuffix(".pid")) for one in place.recorded()} - {before.child.pid}
        os.kill(runner, signal.SIGHUP)
        await until(lambda: (now := service.running()) is not None and now is not before)
        assert not alive(runner)
        assert (await place.ask())["pid"] == service.running().child.pid


async def test_an_app_that_cannot_run_twice_is_stopped_first(place: Place) -> None:
    first, second = place.release("v1"), place.release("v2")
    async with place.running(preflight=False) as service:
        before = await service.restart(first)
        await well(before)
        early = asyncio.create_task(service.restart(second))
        await until(lambda: not alive(before.child.pid))
        await well(await early)
        assert (await place.ask())["version"] == "v2"


@pytest.mark.parametrize("preflight", [True, False])
async def test_a_release_that_cannot_be_started_leaves_the_one_before_running(
    place: Place, preflight: bool
) -> None:
    first, second = place.release("v1"), place.release("v2")
    shutil.rmtree(second.path / "venv")
    async with place.running(preflight=preflight) as service:
        before = await service.restart(first)
        await well(before)
        for attempt in (service.restart, service.try_out):
            with pytest.raises(Failed) as caught:
                await attempt(second)
            assert caught.value.code is Code.START_NOT_FOUND
        assert (await place.ask())["pid"] == before.child.pid
        assert service.running() is before


async def test_a_process_that_the_machine_refuses_leaves_the_one_before_watched(place: Place) -> None:
    first, second = place.release("v1"), place.release("v2")
    place.clock = Impatient()
    memory = True

    async def start(*args: Any, **kwargs: Any) -> process.Child:
        if not memory:
            raise OSError(12, "Cannot allocate memory")
        return await process.start(*args, **kwargs)

    place.start = start
    async with place.running() as service:
        before = await service.restart(first)
        await well(before)
        memory = False
        with pytest.raises(Failed, match=r"could not be started: .*Cannot allocate memory"):
            await service.try_out(second)
        memory = True
        assert (await place.ask())["pid"] == before.child.pid
        assert len(place.recorded()) == 2
        os.kill(before.child.pid, signal.SIGKILL)
        await until(lambda: service.running() not in (None, before))


async def test_a_port_that_another_process_has_is_refused_with_the_name_of_that_process(place: Place) -> None:
    with socket.create_server(("127.0.0.1", place.port)):
        service = place.service()
        with pytest.raises(Refused, match=f"process {os.getpid()}") as caught:
            await service.reserve()
        assert caught.value.code is Code.PORT_TAKEN
    await service.reserve()
    await service.stop()


async def test_the_public_socket_can_be_unix_beneath_the_root(place: Place) -> None:
    async with place.running(listen="unix:/run/demo/app.sock") as service:
        running = await service.restart(place.release("v1"))
        assert running.address == f"unix:{place.root}/run/demo/app.sock"
        await well(running)
    assert not (place.root / "run/demo/app.sock").exists()


async def test_a_start_command_that_ignores_the_socket_is_reported_as_such(place: Place) -> None:
    async with place.running(start="python app.py --ignore", drain_s=0.2) as service:
        placed = place.release("v1")
        for running in (await service.try_out(placed), await service.restart(placed)):
            with pytest.raises(Failed) as caught:
                await well(running, deadline_s=0.3)
            assert caught.value.code is Code.SOCKET_NOT_TAKEN
            assert caught.value.output == "started v1"
