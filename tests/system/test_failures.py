"""Releases that are no good, and a systemd in trouble: the true reason, and everything as it was; or mended."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.server import APP, Server

GOOD = (Path(__file__).parent.parent.parent / "app-src/v1/app.py").read_text()
REQUIREMENTS = "Flask==3.0.3\ngunicorn==22.0.0\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of versions; `good` is one that works."""
    write(tmp_path / "good", GOOD.replace('"v1"', '"good"'))
    return tmp_path


def write(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "app.py").write_text(text)
    (folder / "requirements.txt").write_text(REQUIREMENTS)


@pytest.mark.parametrize(
    ("name", "text", "code", "shown"),
    [
        ("no-import", "import nothing_of_that_name\n", "app_exited", "ModuleNotFoundError"),
        ("wrong", GOOD.replace('"v1"', '"v0"'), "app_unhealthy", ""),
    ],
)
def test_a_release_that_is_no_good_changes_nothing(
    name: str, text: str, code: str, shown: str, live: Server, source: Path
) -> None:
    before = live.look()
    write(source / name, text)
    answer = live.send(name, source=source)
    assert (answer["outcome"], answer["code"]) == ("failed", code), answer
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


def test_without_a_bus_that_is_the_reason(live: Server) -> None:
    before = live.look()
    live.machine.run("systemctl", "stop", "dbus.socket", "dbus.service")
    try:
        answer = live.send("v2")
    finally:
        live.machine.run("systemctl", "start", "dbus.socket", "dbus.service")
    assert (answer["outcome"], answer["code"]) == ("refused", "service_failed"), answer
    assert "bus" in answer["detail"]
    assert live.look() == before


def test_a_socket_that_is_down_is_opened_again(live: Server) -> None:
    live.machine.run("systemctl", "stop", f"{APP}.socket")
    live.deploy("v2")
    assert live.units()[f"{APP}.socket"] == "active"
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


def test_an_edited_unit_and_an_edited_file_keep_deploys_refused_until_applied(live: Server) -> None:
    file = f"/etc/pusher-agent/apps/{APP}.toml"
    live.machine.run("sh", "-c", f"cp {file} /etc/kept.toml; sed -i '/^start/s/-w 2/-w 1/' {file}")
    refused = live.send("v2")
    assert (refused["outcome"], refused["code"]) == ("refused", "configuration"), refused
    said = live.machine.run("pusher-agent", "app", "apply", APP).stdout
    assert f"rendered {APP}.service" in said
    live.deploy("v2")
    assert " -w 1 " in live.machine.says("systemctl", "show", "--property=ExecStart", f"{APP}.service")
    live.machine.run("sh", "-c", f"echo '# mine' >>/etc/systemd/system/{APP}.service")
    assert "is not what" in live.send("v3")["detail"]
    live.machine.run("sh", "-c", f"cp /etc/kept.toml {file}; pusher-agent app apply {APP}")
    assert live.rollback()["outcome"] == "done"
