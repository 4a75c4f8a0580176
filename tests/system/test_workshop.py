"""The workshop, on a real host: its own checks, typed as it types them."""

import asyncio
import re
from functools import partial
from pathlib import Path

import pytest

from tests.system import versions
from tests.system.load import Visitors
from tests.system.server import APP, Server

DEPLOYMENTS = f"/apps/{APP}/deployments"
TURNS = 10


def test_v1_v2_v3_and_back_pass_the_checks_of_the_workshop(server: Server) -> None:
    says = server.machine.says
    releases = [server.deploy(version)["release"] for version in ("v1", "v2", "v3")]
    assert server.version() == "v3"

    listing = says("ls", "-l", f"/opt/{APP}")
    assert re.search(rf"current -> \./releases/{releases[-1]}$", listing, re.M), listing
    assert re.search(r" releases$", listing, re.M)
    assert re.search(r" shared$", listing, re.M)
    assert "Active: active (running)" in says("systemctl", "status", APP)
    assert re.search(r"LISTEN .* 0\.0\.0\.0:8000 .*(gunicorn|python)", says("ss", "-lntp"))
    assert says("curl", "-sS", "http://localhost:8000/") == "Hello from Flask demo v3 (rsync edition)!"
    assert says("curl", "-sS", "http://localhost:8000/version").split() == ['{"version":"v3"}']

    assert server.rollback()["live"]["release"] == releases[1]
    assert server.version() == "v2"
    assert server.rollback(releases[0])["live"]["release"] == releases[0]
    assert server.version() == "v1"


def test_a_release_knows_its_name_and_its_version_and_its_candidate_does_not_stay(live: Server) -> None:
    release = live.deploy("v2")["release"]
    pid = live.main()
    environment = live.machine.says("cat", f"/proc/{pid}/environ").split("\0")
    assert {f"PUSHER_RELEASE={release}", "PUSHER_VERSION=v2", f"PUSHER_APP={APP}"} <= set(environment)
    assert live.machine.says("readlink", f"/proc/{pid}/cwd").strip() == f"/opt/{APP}/releases/{release}"
    for unit in (f"{APP}-preflight.service", f"{APP}-preflight.socket"):
        live.machine.until(lambda unit=unit: live.says("is-active", unit) == "inactive", what=unit)


def test_an_agent_that_starts_again_does_not_disturb_the_app(live: Server) -> None:
    before = live.look()
    live.machine.run("systemctl", "restart", "pusher-agent")
    assert live.look() == before
    assert live.curl("/status")["running"] is True


def test_after_a_reboot_agent_and_app_come_back_by_themselves(live: Server) -> None:
    version = live.version()
    live.machine.reboot()
    live.machine.until(lambda: live.machine.says("systemctl", "is-active", "pusher-agent").strip() == "active")
    assert live.version() == version
    status = live.curl("/status")
    assert (status["live"]["version"], status["running"]) == (version, True)
    restarts = live.machine.says("journalctl", "--boot", f"--unit={APP}.service", "--output=cat", "--grep=^Stopp")
    assert "Stopp" not in restarts, "the agent started again what systemd had started"


@pytest.mark.parametrize(("hook", "outcome"), [("before-symlink", "failed"), ("after-symlink", "done")])
def test_after_a_power_cut_in_a_deployment_a_release_answers(
    hook: str, outcome: str, live: Server, tmp_path: Path
) -> None:
    before = live.version()
    live.machine.run("rm", "-f", "/srv/go")
    path = live.pack("cut", source=versions.write(tmp_path, "cut", **{f"hooks__{hook}": versions.HELD_HOOK}))
    with live.machine.running("curl", "-sS", "-T", path, "-X", "POST", f"agent:9000{DEPLOYMENTS}"):
        live.until_status(f"Deploying {APP} cut: hook {hook}")
        live.machine.cut_power()
    (live.machine.root / "srv/go").touch()  # after the switch it goes on where it was
    live.machine.boot()
    live.machine.until(lambda: live.says("is-active", "pusher-agent") == "active", seconds=30)
    status, past = live.curl("/status"), live.curl("/releases")["deployments"]
    assert (status["running"], status["deploying"]) == (True, None)
    assert past[0]["outcome"] == outcome, past[0]
    assert live.version() == status["live"]["version"] == ("cut" if outcome == "done" else before)


@pytest.mark.timeout(300)
async def test_while_releases_change_under_load_no_request_on_a_fresh_connection_fails(live: Server) -> None:
    paths = [await asyncio.to_thread(live.pack, f"v{1 + number % 3}") for number in range(TURNS)]
    async with Visitors(live.machine.address, 8000, "/version", per_second=200) as visitors:
        for path in paths:
            for answering in (partial(live.curl, DEPLOYMENTS, "--data-binary", f"@{path}"), live.rollback):
                answer = await asyncio.to_thread(answering)
                assert answer["outcome"] == "done", answer
    print(visitors.endings, f"longest {visitors.longest_s:.2f} s, behind {visitors.behind_s:.2f} s")
    assert {ending.split()[0] for ending in visitors.endings} == {"200"}, visitors.endings
    assert {"200 v1", "200 v2", "200 v3"} <= visitors.endings.keys()
    assert visitors.endings.total() > 2 * TURNS * 100
