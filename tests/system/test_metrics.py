"""The metrics of a server: who may read them, and what they say where systemd keeps the app."""

import shlex
from collections.abc import Iterator

import pytest

from tests.scraping import Scrape, parse
from tests.system.server import APP, Server

TOML = "/etc/pusher-agent/agent.toml"
ADDRESSES = {
    "over tcp": ("127.0.0.1:9000/metrics",),
    "over the unix socket": ("--unix-socket", "/run/pusher-agent/api.sock", "http://localhost/metrics"),
}


def said(server: Server, *options: str, user: str = "") -> str:
    return server.machine.says("curl", "-sS", *options, user=user)


def scrape(server: Server) -> Scrape:
    return parse(said(server, *ADDRESSES["over tcp"]))


@pytest.fixture
def watched(live: Server) -> Iterator[Server]:
    """A server where mallory may read the metrics."""
    live.machine.run("cp", "-a", TOML, "/root/agent.toml")
    table = shlex.quote('\n[door]\nmetrics_users = ["mallory"]\n')
    live.machine.run("sh", "-c", f"printf %s {table} >>{TOML}; systemctl restart pusher-agent")
    yield live
    live.machine.run("sh", "-c", f"cat /root/agent.toml >{TOML}; systemctl restart pusher-agent")


def test_a_user_that_root_names_reads_the_metrics_and_nothing_else(watched: Server) -> None:
    for address in ADDRESSES.values():
        assert parse(said(watched, *address, user="mallory")).value("pusher_app_healthy", app=APP) == 1
        assert parse(said(watched, *address, user="alice")).value("pusher_app_running", app=APP) == 1
        for user in ("nobody", APP):
            assert '"code":"not_allowed"' in said(watched, *address, user=user)
    assert '"code":"not_allowed"' in said(watched, "127.0.0.1:9000/status", user="mallory")
    assert watched.rollback(user="mallory")["code"] == "not_allowed"


def test_the_agents_own_figures_are_there_although_its_unit_hides_the_rest_of_proc(live: Server) -> None:
    found = scrape(live)
    pid = live.machine.says("systemctl", "show", "--value", "--property=MainPID", "pusher-agent").strip()
    resident = live.machine.says("sh", "-c", f"awk '/VmRSS/ {{print $2}}' /proc/{pid}/status")
    assert abs((found.value("process_resident_memory_bytes") or 0) / 1024 - int(resident)) < 20_000
    assert 5 < (found.value("process_open_fds") or 0) < (found.value("process_max_fds") or 0) == 8192
    assert found.value("process_start_time_seconds", ) == pytest.approx(
        float(live.machine.says("date", "+%s")), abs=3600
    )  # fmt: skip


def test_the_examples_come_with_the_package(live: Server) -> None:
    folder = "/usr/share/doc/pusher-agent/examples"
    found = live.machine.says("find", folder, "-type", "f", "-perm", "644", "-printf", "%P\n").splitlines()
    assert {
        "prometheus/pusher-agent-alerts.yml",
        "grafana/pusher-agent.json",
        "nginx/pusher-repository.conf",
    } <= {*found}


def test_an_app_that_was_killed_is_counted_and_well_again(live: Server) -> None:
    before = scrape(live).value("pusher_app_restarts_total", app=APP) or 0
    live.machine.run("kill", "-KILL", str(live.runner()))
    live.machine.until(
        lambda: (scrape(live).value("pusher_app_restarts_total", app=APP) or 0) == before + 1, what="it is counted"
    )
    live.machine.until(lambda: scrape(live).value("pusher_app_healthy", app=APP) == 1, what="it is well")


def test_counts_of_deployments_survive_a_restart_of_the_agent(live: Server) -> None:
    name = "pusher_deployments_total"
    live.deploy("v2")
    before = scrape(live)
    live.machine.run("systemctl", "restart", "pusher-agent")
    after = scrape(live)
    assert after.samples[name] == before.samples[name]
    assert (after.value(name, app=APP, kind="deploy", outcome="done") or 0) >= 1
    assert (after.value("pusher_step_duration_seconds_count", app=APP, step="switch", outcome="done") or 0) >= 1
