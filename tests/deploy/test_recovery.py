"""An agent that is stopped or killed during a deployment, and started again: the app ends up where it should."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.host import APP, Host, hook, wsgi

GATE = hook('touch "../../at-$(basename "$0")"; while [ ! -e ../../open ]; do sleep 0.02; done')


class Daemon:
    """`pusher-agent serve` as a process of its own."""

    def __init__(self, host: Host) -> None:
        self.host = host

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent", "serve", "--root", str(self.host.root),
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        while True:
            assert self.process.returncode is None
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.host.door)
                writer.close()
                return

    async def end(self, number: int) -> None:
        self.process.send_signal(number)
        await self.process.wait()
        await self.host.stop()  # closes the tests' own connections to it


@pytest.fixture
async def daemon(host_off: Host) -> AsyncIterator[Daemon]:
    one = Daemon(host_off)
    await one.start()
    yield one
    if one.process.returncode is None:
        await one.end(signal.SIGTERM)


async def reached(path: Path, sending: "asyncio.Task[Any]") -> None:
    while not await asyncio.to_thread(path.exists):
        assert not sending.done(), sending
        await asyncio.wait([sending], timeout=0.02)


async def send_up_to(host: Host, hook_name: str, version: str) -> "asyncio.Task[Any]":
    """Begin a deployment that waits in a hook until the file `open` is there."""
    sending = asyncio.create_task(host.send(wsgi(version) | {f"hooks/{hook_name}": GATE}, version))
    await reached(host.app.path / f"at-{hook_name}", sending)
    return sending


async def recovered(host: Host) -> dict[str, Any]:
    _, listing = await host.request("GET", "/releases")
    assert all(one["outcome"] for one in listing["deployments"])
    assert host.state()["staging"] == []
    return listing


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_before_the_switch_the_old_release_serves_and_the_new_one_is_gone(daemon: Daemon, number: int):
    host = daemon.host
    await host.deploy(wsgi("v1"), "v1")
    before = host.state()
    sending = await send_up_to(host, "before-symlink", "v2")
    ending = asyncio.create_task(daemon.end(number))
    if number == signal.SIGTERM:
        # The deployment ends at the next step: the hook may end first.
        (host.app.path / "open").touch()
    await ending
    with contextlib.suppress(Exception):
        await sending
    await daemon.start()
    assert await host.serving() == "v1"
    assert host.state() == before
    listing = await recovered(host)
    assert listing["deployments"][0]["outcome"] == "failed"
    assert listing["deployments"][0]["problem"]["code"] == "interrupted"


async def test_after_the_switch_the_new_release_is_checked_once_more_and_stays_if_it_is_healthy(daemon: Daemon):
    host = daemon.host
    await host.deploy(wsgi("v1"), "v1")
    sending = await send_up_to(host, "after-symlink", "v2")
    await daemon.end(signal.SIGKILL)
    with contextlib.suppress(Exception):
        await sending
    (host.app.path / "open").touch()
    await daemon.start()
    assert await host.serving() == "v2"
    listing = await recovered(host)
    assert [one["outcome"] for one in listing["deployments"]] == ["done", "done"]
    _, answer = await host.rollback()
    assert answer["version"] == "v1"


async def test_a_release_that_kills_its_agent_each_time_ends_taken_back(daemon: Daemon):
    host = daemon.host
    await host.deploy(wsgi("v1"), "v1")
    await send_up_to(host, "after-symlink", "v2")
    flag = host.app.path / "at-after-symlink"
    for _ in range(2):
        flag.unlink()
        await daemon.end(signal.SIGKILL)
        starting = asyncio.create_task(daemon.start())
        await reached(flag, starting)
        starting.cancel()
    flag.unlink()
    await daemon.end(signal.SIGKILL)
    await daemon.start()
    assert await host.serving() == "v1"
    listing = await recovered(host)
    assert listing["deployments"][0]["outcome"] == "failed"
    assert {one["version"]: one["standing"] for one in listing["releases"]} == {"v1": "good", "v2": "failed"}


async def test_a_first_deployment_that_is_interrupted_leaves_nothing(daemon: Daemon):
    host = daemon.host
    await send_up_to(host, "before-symlink", "v1")
    await daemon.end(signal.SIGKILL)
    await daemon.start()
    assert host.state() == {"current": None, "venv": None, "releases": [], "staging": []}
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", host.ports[APP])


async def test_the_app_does_not_outlive_an_agent_that_was_killed(daemon: Daemon):
    host = daemon.host
    await host.deploy(wsgi("v1"), "v1")
    pid = (await host.answer())["pid"]
    app, gone = os.pidfd_open(pid), asyncio.Event()
    asyncio.get_running_loop().add_reader(app, gone.set)
    await daemon.end(signal.SIGKILL)
    await asyncio.wait_for(gone.wait(), timeout=20)
    asyncio.get_running_loop().remove_reader(app)
    os.close(app)
    await daemon.start()
    assert await host.serving() == "v1"


async def test_a_second_agent_on_the_same_root_is_refused(daemon: Daemon):
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent", "serve", "--root", str(daemon.host.root), stderr=asyncio.subprocess.PIPE
    )
    _, said = await second.communicate()
    assert second.returncode == 4
    assert f"process {daemon.process.pid}".encode() in said
