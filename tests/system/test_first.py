"""A second app beside the first: its first deployments, its addresses, its place, and its end."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import versions
from tests.system.server import APP, Server

OTHER = "other-app"
FILE = f"/etc/pusher-agent/apps/{OTHER}.toml"
DROP = "/var/lib/pusher-agent/drop"
STOPPED = {f"{OTHER}.socket": "inactive", f"{OTHER}.service": "inactive"}


@pytest.fixture(scope="module")
def two(server: Server) -> Iterator[Server]:
    """The server with a second app, of which nothing was deployed yet."""
    server.fill_cache(app=OTHER)
    server.machine.run("pusher-agent", "app", "add", OTHER, "--listen", "127.0.0.1:8001", "--health", "/version")
    # Its releases fail by ending. gunicorn takes 30 s to that if both its workers have ended before it looks.
    server.machine.run("sh", "-c", f"echo 'deadline_s = 60' >>{FILE} && pusher-agent app apply {OTHER}")
    yield server
    if server.machine.run("test", "-e", FILE, check=False).returncode == 0:
        server.machine.run("pusher-agent", "app", "remove", OTHER, "--purge")


def change(server: Server, key: str, value: str) -> subprocess.CompletedProcess[str]:
    """Another value in the app's file, applied."""
    server.machine.run("sed", "-i", f'0,/^{key} = /s|^{key} = .*|{key} = "{value}"|', FILE)
    return server.machine.run("pusher-agent", "app", "apply", OTHER, check=False)


def answers(server: Server, *options: str) -> str:
    return server.machine.says("curl", "-sS", "--max-time", "10", *options).strip()


@pytest.mark.parametrize(
    ("version", "before", "code"),
    [
        ("broken", "import nothing_of_that_name\n", "app_exited"),
        ("shy", versions.ONLY_AS_CANDIDATE, "app_exited"),
    ],
)
def test_a_first_deployment_that_fails_leaves_nothing_live_and_nothing_listening(
    version: str, before: str, code: str, two: Server, tmp_path: Path
) -> None:
    source = versions.write(tmp_path, version, before=before)
    answer = two.send(version, source=source, app=OTHER)
    assert (answer["outcome"], answer["code"]) == ("failed", code), answer
    assert two.units(app=OTHER) == STOPPED
    assert two.machine.run("test", "-L", f"/opt/{OTHER}/current", check=False).returncode == 1
    assert "Failed to connect" in answers(two, "127.0.0.1:8001/")
    assert two.curl(f"/apps/{OTHER}/status")["live"] is None
    assert OTHER not in two.says("list-units", "--failed", "--plain", "--no-legend")


@pytest.mark.parametrize(
    ("listen", "asking"),
    [
        ("[::]:8001", ("-g", "[::1]:8001/version")),
        (f"unix:/run/{OTHER}/app.sock", ("--unix-socket", f"/run/{OTHER}/app.sock", "localhost/version")),
    ],
)
def test_an_app_listens_wherever_its_file_says(
    listen: str, asking: tuple[str, ...], two: Server, tmp_path: Path
) -> None:
    done = change(two, "listen", listen)
    assert done.returncode == 0, done
    version = "l" + "".join(filter(str.isalnum, listen))
    answer = two.send(version, source=versions.write(tmp_path, version), app=OTHER)
    assert answer["outcome"] == "done", answer
    assert answers(two, *asking) == f'{{"version":"{version}"}}'


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/etc/pusher-agent", "belongs to root"),
        ("/home/mallory/app", "others than root may write to /home/mallory"),
    ],
)
def test_a_place_that_is_not_an_apps_is_refused(path: str, said: str, two: Server) -> None:
    before = two.machine.says("cat", f"/etc/systemd/system/{OTHER}.service")
    done = change(two, "path", path)
    assert (done.returncode, said in done.stderr) == (4, True), done
    assert two.machine.says("cat", f"/etc/systemd/system/{OTHER}.service") == before
    assert two.machine.says("stat", "--format=%U", "/etc/pusher-agent").strip() == "root"


def test_an_app_that_lies_elsewhere_is_opened_to_the_agent_and_no_more_than_that(
    two: Server, tmp_path: Path
) -> None:
    two.machine.run("sed", "-i", 's|^listen = .*|listen = "0.0.0.0:80"|', FILE)
    done = change(two, "path", f"/srv/apps/{OTHER}")
    assert f"the agent may write to /srv/apps/{OTHER}" in done.stdout, done
    answer = two.send("moved", source=versions.write(tmp_path, "moved"), app=OTHER)
    assert answer["outcome"] == "done", answer
    assert answers(two, "127.0.0.1:80/version") == '{"version":"moved"}'
    current = two.machine.says("readlink", "-f", f"/srv/apps/{OTHER}/current").strip()
    assert current == f"/srv/apps/{OTHER}/releases/{answer['release']}"
    pid = two.main(app=OTHER)
    assert two.machine.says("readlink", f"/proc/{pid}/cwd").strip() == current


def test_an_app_that_is_removed_leaves_what_it_says_and_the_other_one_alone(two: Server) -> None:
    if two.units()[f"{APP}.service"] != "active":
        two.deploy("v1")
    before, version = two.look(), two.version()
    said = two.machine.run("pusher-agent", "app", "remove", OTHER).stdout
    assert f"left: /srv/apps/{OTHER} (releases and shared data), user {OTHER}" in said
    assert set(two.says("is-active", f"{OTHER}.service", f"{OTHER}.socket").split()) == {"inactive"}
    assert two.machine.says("find", "/etc", "/run", "-path", f"*{OTHER}*") == ""
    assert "Failed to connect" in answers(two, "127.0.0.1:80/")
    assert (two.look(), two.version()) == (before, version)
    again = two.machine.run("pusher-agent", "app", "remove", OTHER, check=False)
    assert again.returncode == 4
    assert f"There is no app {OTHER}" in again.stderr
    assert f"rm -r /opt/{OTHER}" in again.stderr
    two.deploy("v2")


def test_what_was_left_is_taken_up_again_and_purged_with_nothing_of_others(two: Server) -> None:
    run, place = two.machine.run, f"/opt/{OTHER}"
    said = run("pusher-agent", "app", "add", OTHER, "--listen", "127.0.0.1:8001").stdout
    assert f"{OTHER} is set up again, and the agent starts the release that was live" in said
    assert "from its next restart on" not in said
    assert "a user that existed before" not in said
    status = two.curl(f"/apps/{OTHER}/status")
    assert (status["live"]["version"], status["running"]) == ("lunixrunotherappappsock", True)
    run("ln", "-s", "/etc/pusher-agent", f"{place}/shared/link")
    run("sh", "-c", f"mkdir {place}/shared/mounted && mount -t tmpfs none {place}/shared/mounted")
    refused = run("pusher-agent", "app", "remove", OTHER, "--purge", check=False)
    assert (refused.returncode, "is a mount point" in refused.stderr) == (4, True), refused
    assert two.units(app=OTHER) == dict.fromkeys(STOPPED, "active")
    run("umount", f"{place}/shared/mounted")
    run("mv", FILE, f"{FILE}.going")  # as when it was cut off in the middle
    run("sh", "-c", f"mkdir -p {DROP}/{OTHER}; touch {DROP}/{OTHER}/x")
    said = run("pusher-agent", "app", "remove", OTHER, "--purge").stdout
    assert f"removed {place}\nremoved {DROP}/{OTHER}\nremoved user {OTHER}\n" in said
    assert two.machine.says("find", "/etc", "/opt", "/run", DROP, "-path", f"*{OTHER}*") == ""
    assert two.machine.run("test", "-s", "/etc/pusher-agent/agent.toml", check=False).returncode == 0
    assert two.machine.run("id", OTHER, check=False).returncode == 1
    run("mkdir", place)  # somebody else's: not to be told how to remove it
    again = run("pusher-agent", "app", "remove", OTHER, check=False).stderr
    assert f"There is no app {OTHER}. Available: {APP}" in again, again
    run("rmdir", place)
