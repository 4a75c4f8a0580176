"""The power goes at every change that a deployment makes, and what was not flushed is lost: a release serves."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agent.__main__
from agent.core.layout import AppLayout, HostLayout
from agent.host.shelf import Shelf
from tests.crash.forgetful_disk import ForgetfulDisk, Moment, by_chance, nothing_more, restore
from tests.crash.simulated_service import SimulatedService
from tests.host import APP, Host, running

SETTINGS = {"shared_paths": ["uploads"], "keep_releases": 1, "start": "app"}


def files(version: str) -> dict[str, str]:
    """Requirements differ, so that each version has its own venv."""
    return {"says": version, "requirements.txt": f"# {version}\n", "a/b.txt": "b", "a/c/d.txt": version}


@pytest.fixture
def host(tmp_path: Path, uv_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(agent.__main__, "Disk", ForgetfulDisk)
    monkeypatch.setattr(agent.__main__, "Embedded", SimulatedService)
    (tmp_path / "venvs").mkdir()
    host = Host(tmp_path / "root", uv_cache=uv_cache, venvs=tmp_path / "venvs")
    host.add_app(APP, **SETTINGS)
    return host


async def deploy_over(host: Host, *, without: str = "") -> list[Moment]:
    """v1, v2 and then v3, of which the moments are taken."""
    async with running(host):
        for version in ("v1", "v2"):
            await host.deploy(files(version), version)
        await asyncio.to_thread(ForgetfulDisk.begin, host.app.path, journal=host.layout.journal, without=without)
        await host.deploy(files("v3"), "v3")
        return await asyncio.to_thread(ForgetfulDisk.finish)


async def found_after(moment: Moment, host: Host, root: Path, choose: Callable[[], bool]) -> dict[str, Any]:
    """What the next agent makes of it."""
    await asyncio.to_thread(restore, moment, of=host.root, root=root, top=host.app.path, choose=choose)
    return await state_after_start(host, root)


async def state_after_start(host: Host, root: Path) -> dict[str, Any]:
    again = Host.__new__(Host)
    again.__dict__.update(host.__dict__, root=root, layout=HostLayout(root), app=AppLayout(root / "opt" / APP))
    async with running(again):
        _, status = await again.request("GET", "/status")
        _, listing = await again.request("GET", "/releases")
    return await asyncio.to_thread(state_of, again, status, listing)


def state_of(host: Host, status: dict[str, Any], listing: dict[str, Any]) -> dict[str, Any]:
    """What the agent says, and what is there."""
    shelf, lies = Shelf(host.app), host.state()
    return {
        "live": status["live"] and status["live"]["version"],
        "running": status["running"],
        "trouble": status["trouble"],
        "fallback": status["previous"] and status["previous"]["version"],
        "outcomes": [one["outcome"] for one in listing["deployments"]],
        "damage": {one["version"]: shelf.intact(one["id"]) for one in listing["releases"]},
        "venvs": {one["version"]: whole(shelf.layout.release(one["id"]) / "venv") for one in listing["releases"]},
        "strange": shelf.strange(),
        "staging": lies["staging"],
        "convenience": status["live"] and str(lies["venv"]) == f"venvs/{shelf.venv(status['live']['release'])}",
    }


def whole(venv: Path) -> bool:
    """Whether a venv has what uv and the agent wrote into it."""
    try:
        return all((venv / name).read_bytes() for name in ("pyvenv.cfg", "bin/activate", ".complete"))
    except OSError:
        return False


def wrong(found: dict[str, Any], moment: Moment) -> str:
    """What nobody should ever find; empty if it is well."""
    last = found["outcomes"][0]
    good = {
        "something serves": found["running"] and not found["trouble"],
        "it is a version that was good": found["live"] in ("v2", "v3"),
        "no release is damaged": not any(found["damage"].values()),
        "none lacks anything of its venv": all(found["venvs"].values()),
        "none is unknown": not found["strange"],
        "there is a way back": found["fallback"] in ("v1", "v2") and found["fallback"] != found["live"],
        "nothing is under way": None not in found["outcomes"],
        "nothing is half built": found["staging"] == [],
        "what was done is live": found["live"]
        == ("v3" if last == "done" and len(found["outcomes"]) == 3 else "v2"),
        "its venv is the one shown": found["convenience"],
    }
    return "; ".join(f"not so: {what}" for what, so in good.items() if not so) and f"{moment.op}: {good} {found}"


async def test_wherever_the_power_goes_a_release_serves_and_nothing_is_half_done(host: Host, tmp_path: Path):
    moments = await deploy_over(host)
    seen = set()
    for number, moment in enumerate(moments):
        root = tmp_path / f"{number}"
        found = await found_after(moment, host, root, nothing_more)
        assert not wrong(found, moment)
        assert await state_after_start(host, root) == found, f"{moment.op}: once more is not the same as once"
        seen.add(found["live"])
    assert seen == {"v2", "v3"}
    assert len(moments) > 40


async def test_it_is_the_same_where_some_of_what_was_not_flushed_has_made_it(host: Host, tmp_path: Path):
    moments = await deploy_over(host)
    for number, moment in enumerate(moments[::3]):
        found = await found_after(moment, host, tmp_path / f"{number}", by_chance(number))
        assert not wrong(found, moment)


@pytest.mark.parametrize("flush", ["stage.sync", "release.sync", "switch.current.sync", "venv.flush", "venv.sync"])
async def test_a_deployment_that_lacks_one_flush_is_caught(host: Host, tmp_path: Path, flush: str):
    moments = await deploy_over(host, without=flush)
    for number, moment in enumerate(reversed(moments)):  # what is missing shows most at the end
        if wrong(await found_after(moment, host, tmp_path / f"{number}", nothing_more), moment):
            return
    pytest.fail(f"nobody noticed that {flush} was left out")
