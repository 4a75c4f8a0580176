"""A disk that is full: the deployment ends, what is live stays, and the next one succeeds when there is room."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.machine import Machine
from tests.dropping import Patience, await_result, put, until
from tests.host import APP, Host, hook, running, wsgi

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs as root")
MIB = 1024 * 1024


@pytest.fixture
def small_root(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 40 MiB, of which the agent leaves 16 free."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(place)), check=True)
    yield place
    subprocess.run(("umount", str(place)), check=True)


async def test_a_release_that_would_not_fit_is_refused_before_it_travels(
    small_root: Path, uv_cache: Path, ready_venvs: Path
):
    async with running(Host(small_root / "root", uv_cache=uv_cache, venvs=ready_venvs)) as host:
        await host.deploy(wsgi("v1"), "v1")
        before = host.state()
        data = await asyncio.to_thread(host.bundle, wsgi("v2", big=os.urandom(MIB).hex() * 15), "v2")
        status, problem = await host.post(data)
        assert (status, problem["code"], problem["outcome"]) == (507, "disk_full", "refused")
        assert str(30 * MIB)[:2] in problem["detail"]
        assert host.state() == before
        assert await host.serving() == "v1"


async def test_a_disk_that_fills_in_the_middle_fails_the_deployment_and_leaves_nothing(
    small_root: Path, uv_cache: Path, ready_venvs: Path
):
    async with running(Host(small_root / "root", uv_cache=uv_cache, venvs=ready_venvs)) as host:
        await host.deploy(wsgi("v1"), "v1")
        before = host.state()
        filler = host.app.shared / "filler"
        room = os.statvfs(small_root).f_bavail * os.statvfs(small_root).f_frsize
        hog = f"#!/bin/sh\nhead -c {room} /dev/zero > {filler}; true\n"
        status, problem = await host.send(wsgi("v2") | {"hooks/before-symlink-shared": hog}, "v2")
        assert status >= 422, problem
        assert problem["outcome"] == "failed"
        assert host.state() == before
        assert await host.serving() == "v1"
        filler.unlink()
        await host.deploy(wsgi("v3"), "v3")
        assert await host.serving() == "v3"


async def test_a_drop_that_waits_for_room_is_deployed_when_there_is_room(
    small_root: Path, uv_cache: Path, ready_venvs: Path
):
    clock = Patience()
    machine = Machine(clock=clock)
    async with running(Host(small_root / "root", uv_cache=uv_cache, venvs=ready_venvs, machine=machine)) as host:
        await host.deploy(wsgi("v1"), "v1")
        raw = await asyncio.to_thread(host.bundle, wsgi("v2", big=os.urandom(MIB).hex()), "v2")
        filler = host.app.shared / "filler"
        room = os.statvfs(small_root).f_bavail * os.statvfs(small_root).f_frsize
        filler.write_bytes(bytes(room - 10 * MIB))
        assert not clock.pausing
        put(host.layout.drop(APP) / "v2.tar.zst", raw)
        reported = await await_result(host, "v2.tar.zst", state="waiting")
        assert (reported["awaited"], reported["problem"]["code"]) == ("host", "disk_full"), reported
        # One of no use with the same manifest, looked at before it: who asks by the manifest hears of the other.
        put(host.layout.drop(APP) / "a.tar.zst", raw[:-1])
        assert (await await_result(host, "a.tar.zst", manifest=reported["manifest"], state="waiting"))[
            "awaited"
        ] == "arrival"
        async with host.session.get(f"/apps/{APP}/drops/{reported['manifest']}") as answer:
            assert b'"awaited":"host"' in await answer.content.readline()
        await until(lambda: clock.begun >= 3)  # after the arrival, and after the question
        for seconds in (5, 10, 20):
            await clock.end(seconds)
        await until(lambda: 40 in clock.pausing)
        filler.unlink()
        await clock.end(40)
        assert (await await_result(host, "v2.tar.zst"))["state"] == "deployed"
        assert await host.serving() == "v2"
        assert not clock.pausing


async def test_releases_that_failed_are_deleted_for_one_that_would_not_fit(
    small_root: Path, uv_cache: Path, ready_venvs: Path
):
    host = Host(small_root / "root", uv_cache=uv_cache, venvs=ready_venvs)
    host.add_app(APP, keep_releases=1)
    async with running(host):
        live = (await host.deploy(wsgi("v0"), "v0"))["release"]
        for number in range(1, 7):
            bad = wsgi(f"v{number}", big=os.urandom(2 * MIB).hex()) | {"hooks/after-symlink": hook("exit 1")}
            status, problem = await host.send(bad, f"v{number}")
            assert (status, problem["code"]) == (422, "hook_failed")
            await asyncio.to_thread(shutil.rmtree, host.root / "src")
        _, listing = await host.request("GET", "/releases")
        assert host.state()["releases"] == sorted(one["id"] for one in listing["releases"])
        assert len(listing["releases"]) < 7
        assert listing["releases"][0]["version"] == "v6"
        assert (host.state()["current"].name, await host.serving()) == (live, "v0")
