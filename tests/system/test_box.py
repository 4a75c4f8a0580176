"""An app stays in its box and ends with it: no way to process 1, no sight of others, nothing left when removed."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import versions
from tests.system.server import APP, Server
from tests.system.test_rights import heard, with_hook

OTHER = "other-app"

WAYS_OUT = """\
loginctl enable-linger && echo OUT: lingers
systemd-run --user --collect sleep 1000 && echo OUT: a user unit
systemd-run --collect sleep 1000 && echo OUT: a unit
busctl list && echo OUT: a bus
systemctl show --property=Version && echo OUT: process 1 answers
cat /proc/1/environ && echo OUT: process 1 is seen
cat /proc/sys/kernel/hostname >/proc/sys/kernel/hostname && echo OUT: kernel settings
true
"""


@pytest.fixture
def other(live: Server) -> Iterator[str]:
    """One more app, with its own user, set up and with nothing live."""
    live.machine.run("pusher-agent", "app", "add", OTHER, "--listen", "127.0.0.1:8123")
    yield OTHER
    live.machine.run("pusher-agent", "app", "remove", OTHER, "--purge", check=False)


def as_user(server: Server, user: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell as a user, outside of any unit of an app."""
    return server.machine.run("sh", "-c", command, user=user, check=False)


def test_from_a_hook_there_is_no_way_to_process_1(live: Server, tmp_path: Path) -> None:
    answer = live.deploy("boxed", source=with_hook(tmp_path, "boxed", WAYS_OUT))
    said = heard(live, answer)
    assert said
    assert [line for line in said if line.startswith("OUT")] == []
    assert live.machine.run("ls", "/var/lib/systemd/linger", check=False).stdout.split() == []


def test_polkit_refuses_lingering_to_the_users_of_apps_wherever_they_ask(live: Server) -> None:
    assert as_user(live, APP, "loginctl --no-ask-password enable-linger").returncode != 0
    assert live.machine.run("test", "-e", f"/var/lib/systemd/linger/{APP}", check=False).returncode == 1
    rule = live.machine.says("cat", "/etc/polkit-1/rules.d/50-pusher-agent.rules")
    assert f'["{APP}"]' in rule
    assert "set-self-linger" in rule


def test_neither_a_stranger_nor_another_app_reads_the_code_or_the_uploads(live: Server, other: str) -> None:
    live.share_uploads()
    live.deploy("v2")
    live.machine.run("sh", "-c", "umask 0027; echo secret >/opt/flask-demo/shared/uploads/secret", user=APP)
    assert live.machine.says("stat", "--format=%a", "/opt/flask-demo/shared").strip() == "2750"
    for path in (
        f"/opt/{APP}/current/app.py",
        f"/opt/{APP}/shared/uploads/secret",
        f"/opt/{APP}/current/REVISION",
    ):
        assert as_user(live, APP, f"cat {path}").returncode == 0, path
        for user in ("mallory", other):
            assert as_user(live, user, f"cat {path}").returncode == 1, (user, path)
    # The layout that people know can be looked at by everybody.
    assert {"current", "releases", "shared"} <= set(as_user(live, "mallory", f"ls /opt/{APP}").stdout.split())


def test_what_an_app_writes_is_not_readable_by_strangers(live: Server, tmp_path: Path) -> None:
    source = versions.write(tmp_path, "open", after=versions.BROKEN_INTO)
    live.deploy("open", source=source)
    said = live.machine.says("curl", "-sS", "--data-binary", "umask", "127.0.0.1:8000/run")
    assert said.strip() == "0027"
    live.rollback()


def test_an_app_is_held_to_the_memory_and_the_processes_of_its_file(live: Server) -> None:
    file = f"/etc/pusher-agent/apps/{APP}.toml"
    text = live.machine.says("cat", file)
    live.machine.run("sh", "-c", f"printf '[resources]\\nmemory_max = \"300M\"\\ntasks_max = 40\\n' >>{file}")
    live.machine.run("pusher-agent", "app", "apply", APP)
    live.deploy("v3")
    shown = live.machine.says("systemctl", "show", "--property=MemoryMax,TasksMax", f"{APP}.service").split()
    assert sorted(shown) == [f"MemoryMax={300 * 1024**2}", "TasksMax=40"]
    live.machine.run("tee", file, stdin=text)
    live.machine.run("pusher-agent", "app", "apply", APP)
    live.deploy("v2")


def test_a_removed_app_leaves_no_process_of_its_user(live: Server, other: str) -> None:
    with live.machine.running("setpriv", f"--reuid={other}", "--clear-groups", "setsid", "sleep", "1000"):
        live.machine.until(lambda: "sleep" in live.machine.says("ps", "-o", "comm=", "-u", other))
        said = live.machine.run("pusher-agent", "app", "remove", other, "--purge").stdout
        assert f"ended 1 processes that user {other} ran outside of the units" in said
        assert f"removed user {other}" in said
        assert live.machine.run("pgrep", "-x", "sleep", check=False).stdout == ""
