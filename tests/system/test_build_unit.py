"""Dependencies on a real host: a unit of the app's own builds them, as a user that may do nothing else."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.packages import sdist
from tests.system.server import APP, Server

GOOD = Path(__file__).parent.parent.parent / "app-src/v1"
FILE = f"/etc/pusher-agent/apps/{APP}.toml"
CACHE = f"var/cache/private/pusher-build/{APP}"
UNIT, SOCKET = f"{APP}-build.service", f"{APP}-build.socket"
TRIES = f"""
import json, os, socket, subprocess
def outcome(what):
    try:
        return str(what() or "done")
    except Exception as error:
        return type(error).__name__
def connect(family, address):
    with socket.socket(family) as one:
        one.settimeout(2)
        one.connect(address)
def command(*argv):
    return subprocess.run(argv, capture_output=True, timeout=10).returncode and "refused"
found = {{
    "uid": os.getuid(), "groups": os.getgroups(), "environment": dict(os.environ),
    **{{f"write {{path}}": outcome(lambda: open(path, "w") and None) for path in (
        "/opt/{APP}/x", "/opt/{APP}/shared/x", "/opt/{APP}/.staging/x", "/var/lib/pusher-agent/x",
        "/var/cache/pusher-agent/x", "/run/pusher-build/x", "/etc/x", "/usr/lib/pusher-agent/x", "/dev/shm/x/y")}},
    **{{f"read {{path}}": outcome(lambda: os.listdir(path) and None) for path in (
        "/var/lib/pusher-agent", "/etc/pusher-agent", "/run/pusher-agent", "/root",
        "/var/cache/private/pusher-build/other-app")}},
    "bus": outcome(lambda: connect(socket.AF_UNIX, "/run/dbus/system_bus_socket")),
    "systemd": outcome(lambda: connect(socket.AF_UNIX, "/run/systemd/private")),
    "orders": outcome(lambda: connect(socket.AF_UNIX, "/run/pusher-build/{APP}.sock")),
    "door": outcome(lambda: connect(socket.AF_INET, ("127.0.0.1", 9000))),
    "rollback": outcome(lambda: command("systemctl", "--no-ask-password", "stop", "{APP}.service")),
    "linger": outcome(lambda: command("loginctl", "--no-ask-password", "enable-linger")),
    "unshare": outcome(lambda: command("unshare", "--user", "true")),
    "agent": outcome(lambda: os.kill(int(open("/proc/1/stat").read().split()[0]), 0)),
}}
with open(os.environ["HOME"] + "/found", "w") as file:
    json.dump(found, file)
devnull = subprocess.DEVNULL
subprocess.Popen(("setsid", "sleep", "1987"), stdin=devnull, stdout=devnull, stderr=devnull)
"""


def write_version(folder: Path, name: str, *, code: str) -> Path:
    """A folder of versions with one that needs a package which is built, by `code` among others."""
    (folder / name / "wheels").mkdir(parents=True)
    (folder / name / "app.py").write_text((GOOD / "app.py").read_text().replace('"v1"', f'"{name}"'))
    (folder / name / "requirements.txt").write_text((GOOD / "requirements.txt").read_text() + "evil\n")
    (folder / name / "wheels/evil-1.tar.gz").write_bytes(sdist("evil", code=code))
    return folder


def configure(server: Server, text: str) -> None:
    server.machine.run("sh", "-c", f"cat >>{FILE}", stdin=f"\n[dependencies]\n{text}\n")
    server.machine.run("pusher-agent", "app", "apply", APP)


@pytest.fixture
def builds(live: Server) -> Iterator[Server]:
    """The server, whose app may have its dependencies built. Its configuration is as before in the end."""
    live.machine.run("cp", FILE, "/etc/kept.toml")
    yield live
    live.machine.run("cp", "/etc/kept.toml", FILE)
    live.machine.run("pusher-agent", "app", "apply", APP)


def tried(server: Server) -> dict[str, Any]:
    """What the build code found out."""
    found: dict[str, Any] = json.loads((server.machine.root / CACHE / "found").read_text())
    return found


def quiet(server: Server) -> None:
    """Nothing of the unit runs or listens, and nothing that it started."""
    assert server.says("is-active", UNIT, SOCKET).split() == ["inactive", "inactive"]
    assert server.machine.run("pgrep", "-f", "sleep 1987", check=False).returncode == 1


def test_code_that_builds_a_package_can_do_nothing_but_build_it(builds: Server, tmp_path: Path) -> None:
    configure(builds, "only_binary = false")
    builds.deploy("built", source=write_version(tmp_path, "built", code=TRIES))
    found = tried(builds)
    agent = int(builds.machine.says("id", "-u", "pusher-agent"))
    assert 61184 <= found.pop("uid") <= 65519, "one of systemd's dynamic users"
    assert agent not in found.pop("groups")
    environment = found.pop("environment")
    assert not {"NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "PYTHONPATH"} & environment.keys()
    assert found.pop("door") == "done", "the network is open; to the agent this is a caller without a name"
    assert {name: what for name, what in found.items() if what == "done"} == {}, found
    quiet(builds)
    owner = f"/opt/{APP}/current/venv/lib"
    said = builds.machine.says("find", "-L", owner, "-name", "evil.py", "-printf", "%u:%g %m").split()
    assert said == ["pusher-agent:pusher-agent", "644"]


def test_a_build_without_a_network_has_none(builds: Server, tmp_path: Path) -> None:
    configure(builds, 'only_binary = false\nnetwork = "none"')
    source = write_version(tmp_path, "alone", code=TRIES)
    (source / "alone/requirements.txt").write_text("evil\n")
    answer = builds.send("alone", source=source)
    assert answer["code"] == "start_not_found", "it has no gunicorn, but it has been built"
    assert tried(builds)["door"] == "OSError"
    quiet(builds)


def test_a_deployment_with_the_same_dependencies_does_not_start_the_unit(live: Server) -> None:
    live.deploy("v1")
    show = ("systemctl", "show", "--value", "--property=InvocationID", UNIT)
    before = live.machine.says(*show)
    live.deploy("v2")
    assert live.machine.says(*show) == before
    quiet(live)


def test_a_build_without_an_end_is_ended_and_nobody_else_gets_to_it(builds: Server, tmp_path: Path) -> None:
    configure(builds, "only_binary = false\nno_index = true\ndeadline_s = 8")
    code = "import os, time; open(os.environ['HOME'] + '/begun', 'w'); time.sleep(1987)"
    source = tmp_path / "source"
    write_version(source, "endless", code=code)
    (source / "endless/requirements.txt").write_text("evil\n")
    bundle = builds.pack("endless", source=source)
    posting = ("curl", "-sS", "--max-time", "60", "-X", "POST", "-T", bundle, f"agent:9000/apps/{APP}/deployments")
    begun = builds.machine.root / CACHE / "begun"
    with builds.machine.running(*posting) as sending:
        builds.machine.until(begun.exists, seconds=20)
        connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/pusher-build/flask-demo.sock')"
        for user in ("nobody", APP, "alice", "mallory"):
            said = builds.machine.says("python3", "-c", connect, user=user)
            assert "PermissionError" in said or "FileNotFoundError" in said, said
        began = time.monotonic()
        answer = json.loads(sending.communicate()[0])
    assert time.monotonic() - began < 20
    assert (answer["outcome"], answer["code"]) == ("failed", "dependencies_failed"), answer
    assert "no end after 8 s" in answer["detail"]
    quiet(builds)
    begun.unlink()


def test_a_release_that_does_not_build_is_told_why(builds: Server, tmp_path: Path) -> None:
    configure(builds, "only_binary = false\nno_index = true")
    source = write_version(tmp_path, "broken", code="raise SystemExit('no compiler here')")
    (source / "broken/requirements.txt").write_text("evil\n")
    answer = builds.send("broken", source=source)
    assert (answer["outcome"], answer["code"]) == ("failed", "dependencies_failed"), answer
    assert "no compiler here" in answer["output"]
    quiet(builds)


def test_an_app_is_refused_where_somebody_has_the_name_that_its_builds_would_get(server: Server) -> None:
    add = ("pusher-agent", "app", "add", "other-app", "--listen", "127.0.0.1:8001")
    server.machine.run("useradd", "--system", "other-app-build")
    refused = server.machine.run(*add, check=False)
    server.machine.run("userdel", "other-app-build")
    assert refused.returncode == 4
    assert "The dependencies cannot be built as other-app-build" in refused.stderr


def test_what_builds_have_left_goes_with_the_app(server: Server) -> None:
    server.machine.run("pusher-agent", "app", "add", "other-app", "--listen", "127.0.0.1:8001")
    cache = server.machine.root / "var/cache/private/pusher-build/other-app"
    server.fill_cache(app="other-app")
    server.machine.run("pusher-agent", "app", "remove", "other-app", "--purge")
    assert not cache.exists()
    assert "other-app-build" not in server.says("list-unit-files", "other-app*")
