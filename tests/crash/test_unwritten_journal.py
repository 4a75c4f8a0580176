"""The journal cannot be written while a deployment is taken back: its watchers see the end all the same, and it is
never undone over what goes live later."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.host.storage.database import Database
from agent.machine import Machine
from pusher.wire import Code, Failed
from tests.dropping import Patience, await_result, put
from tests.host import APP, Host, hook, running, wsgi


class FullDatabase(Database):
    """Cannot be written while the file `full` lies beside it."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path, **options)
        self._full = path.with_name("full")

    async def write(self, change: Callable[..., Any]) -> Any:
        if await asyncio.to_thread(self._full.exists):
            raise Failed(Code.DISK_FULL, "The journal could not be used", why="database or disk is full")
        return await super().write(change)


@pytest.fixture
def host_off(tmp_path: Path, uv_cache: Path, ready_venvs: Path) -> Host:
    machine = Machine(database=FullDatabase)
    return Host(tmp_path / "root", uv_cache=uv_cache, venvs=ready_venvs, machine=machine)


def full(host: Host) -> Path:
    return host.layout.state / "full"


async def return_unwritten(host: Host) -> None:
    """v1 is live; v2 was switched to, failed, and was taken back, of which the journal knows nothing."""
    await host.deploy(wsgi("v1"), "v1")
    bad = wsgi("v2") | {"hooks/after-symlink": hook(f"touch {full(host)}; exit 1")}
    _, problem = await asyncio.wait_for(host.send(bad, "v2"), timeout=30)
    assert (problem["code"], problem["outcome"]) == ("hook_failed", "failed")
    assert await host.serving() == "v1"


async def test_watchers_see_the_end_and_the_next_deployment_writes_it_down(host_off: Host):
    async with running(host_off) as host:
        await return_unwritten(host)
        _, problem = await host.send(wsgi("v3"), "v3")
        assert problem["code"] == "disk_full"
        full(host).unlink()
        await host.deploy(wsgi("v3"), "v3")
    async with running(host):
        assert await host.serving() == "v3"
        _, listing = await host.request("GET", "/releases")
        assert [one["outcome"] for one in listing["deployments"]] == ["done", "failed", "done"]
        _, answer = await host.rollback()
        assert answer["version"] == "v1"


async def test_a_release_that_was_discarded_while_the_journal_was_full_is_not_listed(host_off: Host):
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        bad = wsgi("v2") | {"hooks/before-symlink": hook(f"touch {full(host)}; exit 1")}
        _, problem = await asyncio.wait_for(host.send(bad, "v2"), timeout=30)
        assert (problem["code"], problem["outcome"]) == ("hook_failed", "failed")
        full(host).unlink()
        await host.deploy(wsgi("v3"), "v3")
        _, listing = await host.request("GET", "/releases")
        assert [one["version"] for one in listing["releases"]] == ["v3", "v1"]
        assert [one["outcome"] for one in listing["deployments"]] == ["done", "failed", "done"]


async def test_releases_are_what_they_were_once_their_filesystem_is_mounted_again(host_off: Host):
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        await host.deploy(wsgi("v2"), "v2")
        _, before = await host.request("GET", "/releases")
    host.app.path.rename(host.app.path.with_name("elsewhere"))
    async with running(host):
        _, status = await host.request("GET", "/status")
        assert "The releases of flask-demo are gone" in status["trouble"]
    host.app.path.with_name("elsewhere").rename(host.app.path)
    async with running(host):
        _, status = await host.request("GET", "/status")
        assert (status["live"]["version"], status["trouble"]) == ("v2", "")
        _, listing = await host.request("GET", "/releases")
        assert listing == before
        _, answer = await host.rollback()
        assert answer["version"] == "v1"


async def test_an_agent_that_starts_finds_the_old_release_live_and_keeps_it_live(host_off: Host):
    async with running(host_off) as host:
        await return_unwritten(host)
    full(host).unlink()
    async with running(host):
        assert await host.serving() == "v1"
        _, listing = await host.request("GET", "/releases")
        assert [one["outcome"] for one in listing["deployments"]] == ["failed", "done"]


async def test_damage_to_one_app_does_not_keep_the_agent_from_serving(host_off: Host):
    host_off.add_app("other")
    async with running(host_off) as host:
        release = (await host.deploy(wsgi("v1"), "v1"))["release"]
        data = await asyncio.to_thread(host.bundle, wsgi("o1"), "o1", app="other")
        await host.post(data, app="other")
    signed = host.app.release(release) / ".pusher"
    signed.rename(signed.with_name("gone"))
    (host.layout.run / "other" / "x.pid").write_text("garbage")
    async with running(host):
        assert await host.serving() == "v1"
        assert await host.serving(app="other") == "o1"


async def test_a_release_whose_venv_is_gone_is_passed_over_and_says_so(host_off: Host):
    async with running(host_off) as host:
        old = wsgi("v1") | {"requirements.txt": "gunicorn==22.0.0\nclick==8.1.7\n"}
        v1 = await host.deploy(old, "v1")
        await host.deploy(wsgi("v2"), "v2")
        venv = (host.app.release(v1["release"]) / "venv").resolve()
        venv.rename(venv.with_name("moved"))
        status, problem = await host.rollback()
        assert (status, problem["code"]) == (409, "release_damaged")
        assert "venv" in problem["detail"]
        assert await host.serving() == "v2"


async def test_an_app_whose_port_was_occupied_at_the_start_comes_up_when_it_is_free(host_off: Host):
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
    squatter = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", host.ports["flask-demo"])
    async with running(host):
        _, status = await host.request("GET", "/status")
        assert (status["running"], "listens there" in status["trouble"]) == (False, True)
        squatter.close()
        await squatter.wait_closed()
        while not status["running"]:
            _, status = await host.request("GET", "/status")
        assert await host.serving() == "v1"
        _, status = await host.request("GET", "/status")
        assert status["trouble"] == ""


async def test_a_drop_whose_end_could_not_be_written_is_retried_after_pauses_and_ended_by_the_next_deployment(
    host_off: Host,
):
    clock = Patience()
    host_off.machine = Machine(database=FullDatabase, clock=clock)
    async with running(host_off) as host:
        bad = wsgi("v1") | {"hooks/after-symlink": hook(f"touch {full(host)}; exit 1")}
        put(host.layout.drop(APP) / "v1.tar.zst", await asyncio.to_thread(host.bundle, bad, "v1"))
        for seconds in (5, 10):
            await clock.end(seconds)  # and not at once again and again
        assert (await await_result(host, "v1.tar.zst", state="waiting"))["awaited"] == "turn"
        full(host).unlink()
        put(host.layout.drop(APP) / "v2.tar.zst", await asyncio.to_thread(host.bundle, wsgi("v2"), "v2"))
        assert (await await_result(host, "v2.tar.zst"))["state"] == "deployed"
        assert (await await_result(host, "v1.tar.zst"))["state"] == "failed"
