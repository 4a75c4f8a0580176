"""Who may do what on a server: callers, the app, the agent itself."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.system import versions
from tests.system.server import APP, Server

GOOD = Path(__file__).parent.parent.parent / "app-src/v1"


def property_of(server: Server, unit: str, name: str) -> str:
    return server.machine.says("systemctl", "show", "--value", f"--property={name}", unit).strip()


@pytest.mark.parametrize("user", ["nobody", APP, "mallory"])
def test_strangers_and_the_app_itself_may_neither_roll_back_nor_deploy(user: str, live: Server) -> None:
    before = live.look()
    assert live.rollback(user=user)["code"] == "not_allowed"
    assert live.send("v2", user=user)["code"] == "not_allowed"
    assert live.look() == before


def test_who_breaks_into_the_app_can_neither_deploy_nor_change_what_runs(live: Server, tmp_path: Path) -> None:
    live.deploy("v1")
    source = versions.write(tmp_path, "open", after=versions.BROKEN_INTO)
    release = live.deploy("open", source=source)["release"]
    before, inside = live.look(), f"/opt/{APP}/releases/{release}"
    bundle = live.pack("v2")

    def inside_the_app(command: str) -> str:
        return live.machine.says("curl", "-sS", "--data-binary", command, "127.0.0.1:8000/run")

    assert inside_the_app("id -un; pwd").split() == [APP, inside]
    for command in (
        "curl -sS -X POST 127.0.0.1:9000/rollback",
        "curl -sS -X POST --unix-socket /run/pusher-agent/api.sock http://agent/rollback",
        f"curl -sS --data-binary @{bundle} 127.0.0.1:9000/apps/{APP}/deployments",
        "curl -sS 127.0.0.1:9000/status",
    ):
        said = inside_the_app(command)
        assert "not_allowed" in said or "curl: (7)" in said, (command, said)
    for command in (
        "ls /var/lib/pusher-agent/drop",
        "cat /var/lib/pusher-agent/journal.sqlite",
        f"touch /var/lib/pusher-agent/drop/{APP}/x",
        f"touch {inside}/app.py",
        f"touch {inside}/venv/lib/x",
        f"mv {inside} {inside}x",
        f"ln -sfn releases/x /opt/{APP}/current",
        f"rm -r /opt/{APP}/shared/venvs",
        f"touch /etc/systemd/system/{APP}.service",
        f"systemctl --no-ask-password stop {APP}.service",
        f"systemctl --no-ask-password start {APP}-hook.service",
        "kill -9 $(systemctl show --value --property=MainPID pusher-agent)",
        f"echo evil >/opt/{APP}/.agent/hook",
    ):
        said = inside_the_app(f"{command} && echo WELL DONE")
        assert "WELL DONE" not in said, (command, said)
    assert live.look() == before
    assert live.curl("/status")["live"]["version"] == "open"
    live.rollback()


def test_a_member_of_the_group_may(live: Server) -> None:
    assert live.deploy("v2", user="alice")["version"] == "v2"
    assert live.rollback(user="alice")["outcome"] == "done"


def test_from_another_host_there_is_no_door(live: Server) -> None:
    done = subprocess.run(
        ("curl", "-sS", "--noproxy", "*", "--max-time", "5", f"http://{live.machine.address}:9000/healthz"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 7, done  # curl(1): could not connect


def test_the_agent_has_no_capability_and_cannot_gain_one(live: Server) -> None:
    pid = property_of(live, "pusher-agent.service", "MainPID")
    status = live.machine.says("cat", f"/proc/{pid}/status")
    sets = {line.split(":")[0]: line.split(":")[1].strip() for line in status.splitlines()}
    assert {int(sets[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert sets["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    "argv",
    [
        ("systemctl", "--no-ask-password", "restart", "systemd-logind.service"),
        ("systemctl", "--no-ask-password", "stop", "pusher-agent.service"),
        ("systemctl", "--no-ask-password", "start", "ssh.service"),
        ("systemctl", "--no-ask-password", "stop", "dbus.service"),
        ("systemctl", "--no-ask-password", "enable", f"{APP}-hook.service"),
        ("systemctl", "--no-ask-password", "daemon-reload"),
        ("systemctl", "--no-ask-password", "set-property", "--runtime", f"{APP}.service", "CPUQuota=50%"),
        ("systemctl", "--no-ask-password", "kill", f"{APP}.service"),
        ("systemd-run", "--no-ask-password", "id"),
        ("systemd-run", "--no-ask-password", f"--unit={APP}-other.service", "id"),
        ("touch", f"/etc/systemd/system/{APP}.service"),
        ("touch", "/etc/polkit-1/rules.d/50-pusher-agent.rules"),
        ("touch", "/etc/pusher-agent/agent.toml"),
        ("touch", "/etc/pusher-agent/allowed_signers"),
        ("touch", f"/etc/pusher-agent/apps/{APP}.toml"),
        ("touch", "/run/pusher-preflight/other"),
    ],
    ids=" ".join,
)
def test_the_agents_user_can_touch_nothing_but_its_apps(argv: tuple[str, ...], live: Server) -> None:
    before = property_of(live, "systemd-logind.service", "MainPID")
    done = live.machine.run(*argv, user="pusher-agent", check=False)
    assert done.returncode != 0, done
    assert property_of(live, "systemd-logind.service", "MainPID") == before


def test_the_app_can_write_neither_its_code_nor_its_venv_nor_what_it_is_told(live: Server) -> None:
    release = live.deploy("v1")["release"]
    inside = f"/opt/{APP}/releases/{release}"
    places = (
        *(inside, f"{inside}/app.py", f"{inside}/venv/bin", f"{inside}/.pusher/manifest.json"),
        *(f"/opt/{APP}", f"/opt/{APP}/releases", f"/opt/{APP}/shared", f"/opt/{APP}/shared/venvs"),
        *(f"/opt/{APP}/.agent", f"/opt/{APP}/.agent/candidate"),
    )
    for place in places:
        done = live.machine.run("test", "-w", place, user=APP, check=False)
        assert done.returncode == 1, place


def test_what_is_shared_with_the_app_is_writable_to_it_and_to_nobody_else(live: Server) -> None:
    live.share_uploads()
    release = live.deploy("v2")["release"]
    place = f"/opt/{APP}/releases/{release}/uploads"
    live.machine.run("touch", f"{place}/by-the-app", user=APP)
    assert live.machine.run("test", "-w", f"{place}/", user="mallory", check=False).returncode == 1
    assert (
        live.machine.says("stat", "--format=%U:%G", f"/opt/{APP}/shared/uploads").strip() == f"pusher-agent:{APP}"
    )


def test_hooks_run_as_the_apps_user_in_the_release_and_are_heard_line_by_line(
    live: Server, tmp_path: Path
) -> None:
    source = with_hook(
        tmp_path, "hooked", 'id -un; pwd; command -v python; echo "$PUSHER_VERSION $PUSHER_APP"; echo é >&2'
    )
    answer = live.deploy("hooked", source=source)
    folder = f"/opt/{APP}/releases/{answer['release']}"
    assert heard(live, answer) == [APP, folder, f"{folder}/venv/bin/python", f"hooked {APP}", "é"]


def test_a_hook_that_fails_fails_the_deployment_with_how_it_ended(live: Server, tmp_path: Path) -> None:
    before = live.look()
    answer = live.send("bad", source=with_hook(tmp_path, "bad", "echo so sorry; exit 3"))
    assert (answer["outcome"], answer["code"], answer["detail"]) == ("failed", "hook_failed", "exit code 3"), (
        answer
    )
    assert answer["output"] == "so sorry"
    assert live.look() == before
    assert "failed" not in live.machine.says("systemctl", "is-active", f"{APP}-hook.service")


def test_a_hook_without_an_end_is_ended(live: Server, tmp_path: Path) -> None:
    file = f"/etc/pusher-agent/apps/{APP}.toml"
    live.machine.run("sh", "-c", f"cp {file} /etc/kept.toml; sed -i '1i hook_deadline_s = 1' {file}")
    live.machine.run("pusher-agent", "app", "apply", APP)
    answer = live.send("endless", source=with_hook(tmp_path, "endless", "echo begun; exec sleep 986"))
    assert (answer["detail"], answer["output"]) == ("no end after 1 s", "begun"), answer
    assert live.machine.run("pgrep", "-f", "sleep 986", check=False).returncode == 1
    assert "failed" not in live.machine.says("systemctl", "is-active", f"{APP}-hook.service")
    live.machine.run("sh", "-c", f"cp /etc/kept.toml {file}; pusher-agent app apply {APP}")


def test_nothing_that_a_hook_started_outlives_it(live: Server, tmp_path: Path) -> None:
    live.deploy("left", source=with_hook(tmp_path, "left", "setsid sleep 987 & echo started"))
    assert live.machine.run("pgrep", "-f", "sleep 987", check=False).returncode == 1


def with_hook(folder: Path, version: str, text: str) -> Path:
    """A folder of versions with one that has a before-symlink hook."""
    (folder / version / "hooks").mkdir(parents=True)
    for name in ("app.py", "requirements.txt"):
        (folder / version / name).write_text((GOOD / name).read_text().replace('"v1"', f'"{version}"'))
    hook = folder / version / "hooks/before-symlink"
    hook.write_text(f"#!/bin/sh\n{text}\n")
    hook.chmod(0o755)
    return folder


def heard(server: Server, answer: dict[str, str]) -> list[str]:
    """What a deployment's hook wrote."""
    events = server.machine.says("curl", "-sS", f"agent:9000/deployments/{answer['deployment']}/events")
    found = [json.loads(line) for line in events.splitlines()]
    return [one["text"] for one in found if one["event"] == "output" and one["source"] == "hook before-symlink"]
