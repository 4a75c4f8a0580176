"""The power goes at every change that a deployment makes. What was not flushed is lost, and a release serves."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.machine import Machine
from tests.crash.aftermath import SETTINGS, files, state_after_start, wrong
from tests.crash.forgetful_disk import ForgetfulDisk, Moment, by_chance, nothing_more, restore
from tests.crash.simulated_service import SimulatedService
from tests.host import APP, Host, running


@pytest.fixture
def disk() -> ForgetfulDisk:
    return ForgetfulDisk()


@pytest.fixture
def host(tmp_path: Path, uv_cache: Path, disk: ForgetfulDisk) -> Host:
    (tmp_path / "venvs").mkdir()
    machine = Machine(disk=disk, embedded=SimulatedService)
    host = Host(tmp_path / "root", uv_cache=uv_cache, venvs=tmp_path / "venvs", machine=machine)
    host.add_app(APP, **SETTINGS)
    return host


@pytest.fixture
def found_at(tmp_path: Path) -> Iterator[Path]:
    """Where hosts are restored: in memory, if possible, for nothing there has to last."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


async def deploy_over(host: Host, disk: ForgetfulDisk, *, without: str = "") -> list[Moment]:
    """Deploy v1, v2 and v3; the moments of the last one."""
    async with running(host):
        for version in ("v1", "v2"):
            await host.deploy(files(version), version)
        await asyncio.to_thread(disk.begin, host.app.path, journal=host.layout.journal, without=without)
        await host.deploy(files("v3"), "v3")
        return await asyncio.to_thread(disk.finish)


async def found_after(moment: Moment, host: Host, root: Path, choose: Callable[[], bool]) -> dict[str, Any]:
    """The state after the next agent has recovered it."""
    places = {"of": host.root, "root": root, "top": host.app.path, "journal": host.layout.journal}
    await asyncio.to_thread(restore, moment, **places, choose=choose)
    return await state_after_start(host.moved(root))


async def test_wherever_the_power_goes_a_release_serves_and_nothing_is_half_done(
    host: Host, disk: ForgetfulDisk, found_at: Path
):
    moments = await deploy_over(host, disk)
    assert len(moments) > 40
    seen = set()
    before = None
    for number, moment in enumerate(moments):
        if (moment.durable, moment.journal) == before:
            continue  # nothing was flushed since: the same would be found
        before = (moment.durable, moment.journal)
        root = found_at / f"{number}"
        found = await found_after(moment, host, root, nothing_more)
        assert not wrong(found, moment.op)
        assert await state_after_start(host.moved(root)) == found, (
            f"{moment.op}: once more is not the same as once"
        )
        seen.add(found["live"])
    assert seen == {"v2", "v3"}


async def test_it_is_the_same_if_a_part_of_what_was_not_flushed_survives(
    host: Host, disk: ForgetfulDisk, found_at: Path
):
    moments = await deploy_over(host, disk)
    for number, moment in enumerate(moments[::5]):
        found = await found_after(moment, host, found_at / f"{number}", by_chance(number))
        assert not wrong(found, moment.op)


@pytest.mark.parametrize("flush", ["stage.sync", "release.sync", "switch.current.sync", "venv.flush"])
async def test_a_deployment_that_leaves_out_one_flush_is_caught(
    host: Host, disk: ForgetfulDisk, found_at: Path, flush: str
):
    moments = await deploy_over(host, disk, without=flush)
    for number, moment in enumerate(reversed(moments)):  # what is missing shows most at the end
        if wrong(await found_after(moment, host, found_at / f"{number}", nothing_more), moment.op):
            return
    pytest.fail(f"nobody noticed that {flush} was left out")
