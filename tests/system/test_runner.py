"""The runner under systemd: releases change over without a pause, and whatever is killed comes back by itself."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from agent.host.systemd.process import REPLACED
from tests.system import versions
from tests.system.load import Visitors
from tests.system.server import APP, Server

DEPLOYMENTS = f"/apps/{APP}/deployments"
SLOW = """
import time
time.sleep(3)
"""
SLOWLY = """

@app.get("/slow")
def slow() -> dict[str, str]:
    time.sleep(6)
    return {"version": VERSION}
"""
DIES_IN_PUBLIC = """
import os, sys
if not os.environ.get("PUSHER_PREFLIGHT"):
    print("the reason", flush=True)
    os.kill(os.getppid(), 9)
"""
STARTS_LATE = """
import os, time
while not os.environ.get("PUSHER_PREFLIGHT") and not os.path.exists("/srv/started"):
    time.sleep(0.02)
"""
"""A release that does not start in public before there is a file /srv/started."""
OLD_START = '/bin/sh -c "cd -P . && exec venv/bin/gunicorn -w 2 app:app"'
UNIT = f"{APP}.service"


@contextmanager
def slow_request(server: Server) -> Iterator[None]:
    """A request of 6 s, under way while the block lasts; it is answered."""
    with server.machine.running("curl", "-sS", "--max-time", "30", "http://127.0.0.1:8000/slow") as asking:
        yield
        answer, _ = asking.communicate(timeout=30)
    assert b"version" in answer, answer


@pytest.mark.timeout(300)
async def test_an_app_that_imports_for_3_s_with_a_request_of_6_s_makes_nobody_wait(
    live: Server, tmp_path: Path
) -> None:
    for version in ("slow1", "slow2"):
        versions.write(tmp_path, version, before=SLOW, after=SLOWLY)
    await asyncio.to_thread(live.deploy, "slow1", source=tmp_path)
    path = await asyncio.to_thread(live.pack, "slow2", source=tmp_path)
    async with Visitors(live.machine.address, 8000, "/version", per_second=100) as visitors:
        for answering in (partial(live.curl, DEPLOYMENTS, "--data-binary", f"@{path}"), live.rollback):
            with slow_request(live):
                answer = await asyncio.to_thread(answering)
                assert answer["outcome"] == "done", answer
    print(visitors.endings, f"longest {visitors.longest_s * 1000:.1f} ms, behind {visitors.behind_s:.3f} s")
    assert visitors.endings.keys() == {"200 slow1", "200 slow2"}, visitors.endings
    assert visitors.longest_s < 1  # a few ms where nothing else runs


def test_a_deployment_reloads_the_unit_and_its_status_says_what_serves(live: Server) -> None:
    runner, before = live.runner(), live.main()
    release = live.deploy("v2")["release"]
    assert live.runner() == runner
    assert live.main() != before
    status = live.says("status", UNIT)
    assert f"{release} serves as process {live.main()}" in status
    assert re.search(r"runner.pyc --path=/opt/flask-demo", status), status
    assert re.search(r"gunicorn -w 2 app:app", status), status
    rss = live.machine.says("sed", "-n", "s/^VmRSS: *//p", f"/proc/{runner}/status").split()
    print("runner:", *rss)
    assert int(rss[0]) * 1024 < 12_000_000


def test_what_people_type_does_what_they_expect(live: Server) -> None:
    runner, main = live.runner(), live.main()
    live.machine.run("systemctl", "reload", UNIT)
    assert live.runner() == runner
    assert live.main() != main
    live.machine.run("systemctl", "restart", UNIT)
    assert live.runner() != runner
    version = live.version()
    live.machine.run("systemctl", "stop", f"{APP}.socket", UNIT)
    assert live.units() == {f"{APP}.socket": "inactive", UNIT: "inactive"}
    live.machine.run("systemctl", "start", f"{APP}.socket", UNIT)
    assert live.version() == version
    live.machine.until(lambda: live.curl("/status")["running"] is True)
    ends = live.machine.says("journalctl", "--unit=pusher-agent", "--grep=app_exited", "--quiet", "--output=cat")
    assert REPLACED not in ends, "a reload is no end"


def test_two_reloads_at_once_are_both_done(live: Server) -> None:
    first = live.main()
    with (
        live.machine.running("systemctl", "reload", UNIT) as one,
        live.machine.running("systemctl", "reload", UNIT) as other,
    ):
        assert (one.wait(30), other.wait(30)) == (0, 0)
    assert live.main() != first
    assert live.says("is-active", UNIT) == "active"


@pytest.mark.parametrize("victim", ["runner", "main"])
def test_what_is_killed_comes_back_by_itself_on_what_is_live(live: Server, victim: str) -> None:
    version, runner, main = live.version(), live.runner(), live.main()
    live.machine.run("kill", "-9", str(runner if victim == "runner" else main))
    live.machine.until(lambda: live.runner() not in (0, runner), seconds=20)
    assert live.version() == version
    assert live.main() not in (0, main)
    assert "status=9/KILL" in live.machine.says("journalctl", f"--unit={UNIT}", "--lines=50", "--output=cat")
    live.machine.until(lambda: live.curl("/status")["running"] is True)


def test_a_release_that_dies_in_public_never_serves_and_its_traceback_is_shown(
    live: Server, tmp_path: Path
) -> None:
    runner, main, version = live.runner(), live.main(), live.version()
    versions.write(tmp_path, "dies", before=DIES_IN_PUBLIC)
    answer = live.send("dies", source=tmp_path)
    assert answer["outcome"] == "failed", answer
    assert "the reason" in str(answer), answer
    assert (live.runner(), live.main(), live.version()) == (runner, main, version)


def test_a_changed_environment_file_needs_a_restart_and_gets_one(live: Server) -> None:
    """A reload would go on with the environment that systemd once read."""
    live.machine.run("sh", "-c", "echo GREETING=new >/etc/flask-demo.env")
    toml = f"/etc/pusher-agent/apps/{APP}.toml"
    live.machine.run("sed", "-i", '1i environment_file = "/etc/flask-demo.env"', toml)
    live.machine.run("pusher-agent", "app", "apply", APP)
    try:
        for value in ("new", "newer"):
            live.machine.run("sh", "-c", f"echo GREETING={value} >/etc/flask-demo.env")
            runner = live.runner()
            live.deploy("v1")
            assert live.runner() != runner
            assert f"GREETING={value}" in live.machine.says("cat", f"/proc/{live.main()}/environ").split("\0")
        runner = live.runner()
        live.deploy("v2")
        assert live.runner() == runner
    finally:
        live.machine.run("sed", "-i", "/^environment_file/d", toml)
        live.machine.run("pusher-agent", "app", "apply", APP)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("off", ["in order", "at once"])
def test_a_server_that_goes_down_in_the_middle_of_a_reload_comes_back_on_what_is_live(
    live: Server, tmp_path: Path, off: str
) -> None:
    live.deploy("v2")  # with a file of the app that was changed before, the next one restarts and does not reload
    live.machine.run("rm", "-f", "/srv/started")
    version = f"late-{off.replace(' ', '-')}"
    versions.write(tmp_path, version, before=STARTS_LATE)
    posting = ("curl", "-sS", "-X", "POST", "-T", live.pack(version, source=tmp_path), f"agent:9000{DEPLOYMENTS}")
    with live.machine.running(*posting):
        live.machine.until(
            lambda: "starts as process" in live.says("show", "--property=StatusText", UNIT), seconds=60
        )
        if off == "in order":
            live.machine.shut_down()
        else:
            live.machine.cut_power()
    (live.machine.root / "srv/started").touch()
    live.machine.boot()
    live.machine.until(lambda: live.curl("/status").get("deploying", 1) is None, seconds=60)
    live.machine.until(lambda: live.curl("/status")["running"] is True, seconds=30)
    current = (live.machine.root / f"opt/{APP}/current").readlink()
    assert live.version() == (live.machine.root / f"opt/{APP}" / current / "REVISION").read_text().split()[0]
    release = live.curl("/status")["live"]
    assert (release["release"], release["version"]) == (current.name, live.version())
    assert live.says("is-active", UNIT) == "active"
    # That everything on a host ends says nothing about its releases: none is gone back to.
    last = live.curl("/releases")["deployments"][0]
    assert (live.version(), last["outcome"]) == (version, "done"), json.dumps(last)


def test_a_release_whose_predecessor_dies_while_it_starts_is_started_anew(live: Server, tmp_path: Path) -> None:
    live.machine.run("rm", "-f", "/srv/started")
    versions.write(tmp_path, "heir", before=STARTS_LATE)
    posting = ("curl", "-sS", "-X", "POST", "-T", live.pack("heir", source=tmp_path), f"agent:9000{DEPLOYMENTS}")
    with live.machine.running(*posting) as sending:
        live.machine.until(
            lambda: "starts as process" in live.says("show", "--property=StatusText", UNIT), seconds=60
        )
        live.machine.run("kill", "-9", str(live.runner()))
        live.machine.run("touch", "/srv/started")
        assert sending.stdout
        assert json.loads(sending.stdout.read())["outcome"] == "done"
    assert live.version() == "heir"


async def test_an_app_under_the_unit_from_before_goes_over_at_its_next_deployment_and_no_request_fails(
    live: Server,
) -> None:
    run = live.machine.run
    await asyncio.to_thread(live.deploy, "v1")
    file = live.machine.root / "etc/systemd/system" / UNIT
    lines = [line for line in file.read_text().splitlines() if not line.startswith(("Notify", "ExecReload="))]
    old = "\n".join(lines).replace("Type=notify", f"Type=exec\nWorkingDirectory=/opt/{APP}/current")
    file.write_text(re.sub(r"(?m)^ExecStart=.*$", f"ExecStart={OLD_START}", old) + "\n")
    await asyncio.to_thread(run, "systemctl", "daemon-reload")
    await asyncio.to_thread(run, "systemctl", "restart", UNIT)
    async with Visitors(live.machine.address, 8000, "/version", per_second=100) as visitors:
        await asyncio.to_thread(run, "pusher-agent", "app", "apply", APP)
        assert "runner" not in await asyncio.to_thread(live.says, "status", UNIT)
        await asyncio.to_thread(live.deploy, "v2")
        await asyncio.to_thread(live.deploy, "v3")
    print(visitors.endings, f"longest {visitors.longest_s * 1000:.1f} ms")
    assert visitors.endings.keys() == {"200 v1", "200 v2", "200 v3"}, visitors.endings
    assert await asyncio.to_thread(live.main) not in (0, await asyncio.to_thread(live.runner))
