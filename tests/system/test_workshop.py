"""The workshop, on a real host: its own checks, typed as it types them."""

import asyncio
import re

from tests.deploy.test_no_failed_request import Load
from tests.system.server import APP, Server


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
    pid = live.machine.says("systemctl", "show", "--value", "--property=MainPID", APP).strip()
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


def test_after_a_power_cut_in_a_deployment_a_release_answers(live: Server) -> None:
    version = live.version()
    path = live.pack("v1" if version != "v1" else "v2")
    live.machine.run(
        "sh", "-c", f"curl -sS --data-binary @{path} agent:9000/apps/{APP}/deployments >/dev/null 2>&1 &"
    )
    live.machine.until(lambda: live.curl("/status")["deploying"] is not None)
    live.machine.cut_power()
    live.machine.boot()
    live.machine.until(lambda: live.curl("/status")["running"] is True, what="the app coming back")
    assert live.version() == live.curl("/status")["live"]["version"]


async def test_while_releases_change_under_load_no_request_on_a_fresh_connection_fails(live: Server) -> None:
    paths = [await asyncio.to_thread(live.pack, version) for version in ("v1", "v2", "v3")]
    async with Load(f"http://{live.machine.address}:8000/version", per_second=100) as load:
        for path in paths:
            answer = await asyncio.to_thread(live.curl, f"/apps/{APP}/deployments", "--data-binary", f"@{path}")
            assert answer["outcome"] == "done", answer
            answer = await asyncio.to_thread(live.rollback)
            assert answer["outcome"] == "done", answer
    assert set(load.endings) == {"200"}, load.endings
