"""Releases that are no good, and a systemd in trouble: the true reason, and everything as it was; or mended."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.system import versions
from tests.system.server import APP, Server


@pytest.mark.parametrize(
    ("name", "changed", "codes", "shown"),
    [
        # gunicorn takes 30 s to end if both its workers have ended before it looks, and is given 10.
        (
            "no-import",
            {"before": "import nothing_of_that_name\n"},
            ("app_exited", "socket_not_taken"),
            "ModuleNotFoundError",
        ),
        ("wrong", {"after": "\nVERSION = 'v0'\n"}, ("app_unhealthy",), ""),
    ],
)
def test_a_release_that_is_no_good_changes_nothing(
    name: str, changed: dict[str, str], codes: tuple[str, ...], shown: str, live: Server, tmp_path: Path
) -> None:
    before = live.look()
    answer = live.send(name, source=versions.write(tmp_path, name, **changed))
    assert answer["outcome"] == "failed", answer
    assert answer["code"] in codes, answer
    assert shown in answer.get("output", ""), answer
    assert live.look() == before


@contextmanager
def masked(server: Server, unit: str) -> Iterator[None]:
    path = f"/etc/systemd/system/{unit}"
    server.machine.run("sh", "-c", f"mv {path} {path}.kept && ln -s /dev/null {path} && systemctl daemon-reload")
    try:
        yield
    finally:
        server.machine.run("sh", "-c", f"mv {path}.kept {path} && systemctl daemon-reload")


def test_a_masked_unit_is_said_to_be_masked(live: Server) -> None:
    before = live.look()
    with masked(live, f"{APP}.service"):
        answer = live.send("v2")
        assert answer["outcome"] == "refused"
        assert "masked" in answer["detail"]
        assert live.rollback()["outcome"] == "refused"
    assert live.look() == before


@contextmanager
def without_a_bus(server: Server) -> Iterator[None]:
    server.machine.run("systemctl", "stop", "dbus.socket", "dbus.service")
    try:
        yield
    finally:
        server.machine.run("systemctl", "start", "dbus.socket", "dbus.service")


def serving(server: Server) -> Mapping[str, str]:
    """What serves; a release that failed after the switch stays, to be looked at."""
    tree = server.machine.says("readlink", f"/opt/{APP}/current", f"/opt/{APP}/shared/venv")
    return {**server.look(), "tree": tree, "version": server.version()}


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (lambda server: masked(server, f"{APP}.service"), "is masked"),
        (without_a_bus, "Is dbus running?"),
        (Server.without_its_rule, "authentication required"),
    ],
    ids=["masked", "no bus", "no rule"],
)
def test_trouble_that_begins_just_before_the_restart_leaves_the_old_release_serving(
    trouble: Callable[[Server], AbstractContextManager[None]], said: str, live: Server, tmp_path: Path
) -> None:
    before = serving(live)
    source = versions.write(tmp_path, "held", before=versions.HELD)
    with live.held(source, "held") as sending, trouble(live):
        live.machine.run("touch", "/srv/go")
        assert sending.stdout
        answer = json.loads(sending.stdout.read())
        assert live.version()
    assert (answer["outcome"], answer["code"]) == ("failed", "service_failed"), answer
    assert said in answer["detail"] + answer["hint"]
    assert serving(live) == before
    live.deploy("v2")


def test_without_a_bus_that_is_the_reason(live: Server) -> None:
    before = live.look()
    with without_a_bus(live):
        answer = live.send("v2")
    assert (answer["outcome"], answer["code"]) == ("refused", "service_failed"), answer
    assert "bus" in answer["detail"]
    assert live.look() == before


def test_a_socket_that_is_down_is_opened_again(live: Server) -> None:
    live.machine.run("systemctl", "stop", f"{APP}.socket")
    live.deploy("v2")
    assert live.units()[f"{APP}.socket"] == "active"
    assert live.version() == "v2"


def test_a_socket_that_systemd_lost_while_it_was_masked_is_opened_again(live: Server) -> None:
    """Unmasked, it counts as active and has no descriptor ("not functional until restarted")."""
    with masked(live, f"{APP}.socket"):
        pass
    live.machine.run("systemctl", "kill", "--signal=KILL", f"{APP}.service")
    live.machine.until(lambda: "no listening socket" in live.log(), seconds=30)
    live.deploy("v2")
    assert live.version() == "v2"


def test_a_start_limit_that_was_hit_is_cleared(live: Server) -> None:
    drop_in = f"/run/systemd/system/{APP}.service.d"
    live.machine.run(
        *("sh", "-c"),
        f"mkdir -p {drop_in} && printf '[Unit]\\nStartLimitIntervalSec=600\\nStartLimitBurst=2\\n' "
        f">{drop_in}/limit.conf && systemctl daemon-reload; "
        f"for i in 1 2 3 4; do systemctl restart {APP}.service; done; true",
    )
    try:
        live.deploy("v3")
    finally:
        live.machine.run("sh", "-c", f"rm -r {drop_in} && systemctl daemon-reload")
    assert live.version() == "v3"


def test_an_app_that_crashes_is_started_again_and_seen_to_be(live: Server) -> None:
    live.machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", f"{APP}.service")
    live.machine.until(lambda: live.curl("/status")["running"] is False)
    live.machine.until(lambda: live.curl("/status")["running"] is True)
    assert live.version() == live.curl("/status")["live"]["version"]


def test_a_crash_while_there_is_no_bus_is_noticed_all_the_same(live: Server) -> None:
    with without_a_bus(live):
        live.machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", f"{APP}.service")
        live.machine.until(lambda: live.curl("/status")["running"] is False)
    live.machine.until(lambda: live.curl("/status")["running"] is True, seconds=30)
    assert live.version() == live.curl("/status")["live"]["version"]


def test_an_edited_unit_and_an_edited_file_keep_deploys_refused_until_applied(live: Server) -> None:
    file = f"/etc/pusher-agent/apps/{APP}.toml"
    live.machine.run("sh", "-c", f"cp {file} /etc/kept.toml; sed -i '1idrain_s = 9' {file}")
    refused = live.send("v2")
    assert (refused["outcome"], refused["code"]) == ("refused", "configuration"), refused
    said = live.machine.run("pusher-agent", "app", "apply", APP).stdout
    assert f"rendered {APP}.service" in said
    live.deploy("v2")
    assert " --drain=9 " in live.machine.says("systemctl", "show", "--property=ExecStart", f"{APP}.service")
    live.machine.run("sh", "-c", f"echo '# mine' >>/etc/systemd/system/{APP}.service")
    assert "does not agree with" in live.send("v3")["detail"]
    live.machine.run("sh", "-c", f"cp /etc/kept.toml {file}; pusher-agent app apply {APP}")
    assert live.rollback()["outcome"] == "done"


def test_a_missing_environment_file_is_named_before_anything_is_stopped(live: Server) -> None:
    file = f"/etc/pusher-agent/apps/{APP}.toml"
    before, change = live.look(), 'listen = "127.0.0.1:8000"\nenvironment_file = "/etc/app.env"'
    live.machine.run(
        "sh", "-c", f"cp {file} /etc/kept.toml; sed -i 's|^listen.*|{change}|' {file}".replace("\n", "\\n")
    )
    said = live.machine.says("pusher-agent", "app", "apply", APP)
    assert "its environment file /etc/app.env does not exist" in said
    assert live.look() == before
    live.machine.run("sh", "-c", f": >/etc/app.env; cp /etc/kept.toml {file}")
    live.machine.run(
        "sh", "-c", f"sed -i '1ienvironment_file = \"/etc/app.env\"' {file}; pusher-agent app apply {APP}"
    )
    live.machine.run("rm", "/etc/app.env")
    failed = live.send("v2")
    assert "its environment file /etc/app.env does not exist" in failed["detail"], failed
    live.machine.run("sh", "-c", f"cp /etc/kept.toml {file}; pusher-agent app apply {APP}")
    live.deploy("v2")


def test_an_address_that_somebody_else_has_stops_nothing_and_is_named(live: Server) -> None:
    file = f"/etc/pusher-agent/apps/{APP}.toml"
    before = live.look()
    with live.machine.running("/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "81"):
        live.machine.until(lambda: "127.0.0.1:81" in live.machine.says("ss", "-lnt"))
        live.machine.run("sh", "-c", f"cp {file} /etc/kept.toml; sed -i '/^listen/s/:8000/:81/' {file}")
        said = live.machine.says("pusher-agent", "app", "apply", APP)
        assert "Cannot listen at 0.0.0.0:81: python3 (process" in said
        assert live.look() == before
        live.machine.run("systemctl", "stop", f"{APP}.socket", f"{APP}.service")
        live.machine.run("pusher-agent", "app", "apply", APP)
        refused = live.send("v2")
        assert (refused["outcome"], refused["code"]) == ("refused", "port_taken"), refused
        live.machine.run("sh", "-c", f"sed -i '/^listen/s/0.0.0.0/[::]/' {file}; pusher-agent app apply {APP}")
        stuck = live.send("v2")  # an address of the other family: only systemd finds out
        assert (stuck["outcome"], stuck["code"]) == ("stuck", "not_undone"), stuck
        assert "Cannot listen at [::]:81: " in stuck["detail"]
    live.machine.run("sh", "-c", f"cp /etc/kept.toml {file}; pusher-agent app apply {APP}")
    live.deploy("v2")


def test_an_app_that_root_has_stopped_for_good_stays_stopped_and_can_be_started_again(live: Server) -> None:
    both = (f"{APP}.socket", f"{APP}.service")
    version = live.version()
    live.machine.run("systemctl", "disable", "--now", *both)
    live.machine.run("systemctl", "restart", "pusher-agent")
    live.machine.until(lambda: "ok" in live.machine.says("curl", "-sS", "agent:9000/healthz"))
    status = live.curl("/status")
    assert (status["running"], len(status["warnings"])) == (False, 1), status
    assert status["warnings"][0].endswith(f": systemctl enable --now {' '.join(both)}")
    assert [live.says("is-active", unit) for unit in both] == ["inactive", "inactive"]
    live.machine.run("systemctl", "enable", "--now", *both)
    assert live.version() == version
    live.machine.until(lambda: live.curl("/status")["running"] is True, seconds=40, what="the agent seeing it")
    assert live.deploy("v2")["outcome"] == "done"


def test_an_app_that_was_stopped_by_hand_is_said_to_be_with_the_command_that_starts_it(live: Server) -> None:
    both = f"{APP}.socket {APP}.service"
    live.machine.run("systemctl", "stop", *both.split())
    said = f"it does not serve: it was stopped: systemctl start {both}"
    assert live.curl("/status")["warnings"] == [said]
    check = live.machine.run("pusher-agent", "check", check=False)
    assert f"ok    {APP}: {said}" in check.stdout
    live.machine.run("systemctl", "start", *both.split())
    status = live.curl("/status")
    assert (status["running"], status["warnings"]) == (True, []), "what root started is found by who asks"


def test_a_drop_in_that_keeps_every_release_from_starting_is_named_and_what_was_live_stays_current(
    live: Server,
) -> None:
    live.deploy("v1")
    live.deploy("v2")
    file = live.machine.root / f"etc/systemd/system/{APP}.service.d/override.conf"
    file.parent.mkdir(exist_ok=True)
    file.write_text("[Service]\nExecStartPre=/bin/sh -c 'echo the licence server is away; exit 1'\n")
    try:
        live.machine.run("systemctl", "daemon-reload")
        stuck = live.send("v3")
        assert stuck["outcome"] == "stuck", stuck
        assert "the licence server is away" in stuck["output"]
        status = live.curl("/status")
        assert (status["live"]["version"], status["running"]) == ("v2", False)
        named = f" is changed by /etc/systemd/system/{APP}.service.d/override.conf"
        assert named in status["warnings"][0]
        assert named in live.machine.says("pusher-agent", "check")
    finally:
        file.unlink()
        file.parent.rmdir()
        live.machine.run("systemctl", "daemon-reload")
    live.machine.until(lambda: live.curl("/status")["running"], seconds=20)
    assert live.version() == "v2"
    live.deploy("v3")
