"""What root sets up for an app, and takes down again."""

import pytest

from tests.system.server import APP, Server

OTHER = "other-app"
ELSEWHERE = ("--listen", "127.0.0.1:8001")


def test_an_app_is_set_up_and_taken_down_again_without_a_trace_of_it(server: Server) -> None:
    run, says = server.machine.run, server.machine.says
    assert "other-app is set up" in run("pusher-agent", "app", "add", OTHER, *ELSEWHERE).stdout
    assert sorted(line.split()[0] for line in says("pusher-agent", "app", "list").splitlines()) == [APP, OTHER]
    assert server.says("is-enabled", f"{OTHER}.socket", f"{OTHER}.service").split() == ["enabled", "enabled"]
    assert server.says("is-active", f"{OTHER}.socket", f"{OTHER}.service").split() == ["inactive", "inactive"]
    allowed = ("systemctl", "--no-ask-password", "reset-failed", f"{OTHER}.service")
    run(*allowed, user="pusher-agent")
    assert run("pusher-agent", "app", "apply", OTHER).stdout.startswith(f"the units of {OTHER} stay as they are")

    said = run("pusher-agent", "app", "remove", OTHER, "--purge").stdout
    assert f"removed /opt/{OTHER}" in said
    assert "left: the history" in said
    assert server.machine.run(*allowed, user="pusher-agent", check=False).returncode != 0
    assert says("find", "/etc", "/opt", "/run", "-path", f"*{OTHER}*") == ""
    assert server.machine.run("id", OTHER, check=False).returncode == 1


def test_an_app_named_like_a_user_of_the_server_is_said_to_run_as_him(server: Server) -> None:
    said = server.machine.run("pusher-agent", "app", "add", "mallory", *ELSEWHERE).stdout
    assert "mallory runs as mallory, who was there already" in said
    assert "left: user mallory" in server.machine.run("pusher-agent", "app", "remove", "mallory", "--purge").stdout


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("app", "add", APP), "is there already"),
        (("app", "add", "ssh", *ELSEWHERE), "is a unit of something else"),
        (("app", "add", "flask-demo-preflight", *ELSEWHERE), ""),
        (("app", "add", "root", *ELSEWHERE), "cannot run as root"),
        (("app", "add", "alice", *ELSEWHERE), "cannot run as alice"),
        (("app", "add", OTHER), "cannot both listen"),
        (("app", "apply", "none"), "There is no app none"),
        (("app", "remove", "none"), "There is no app none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_somebody_elses_is_refused(argv: tuple[str, ...], said: str, server: Server) -> None:
    before = server.machine.says("find", "/etc", "/opt", "-newer", "/etc/key.pub", "-name", "*ssh*")
    done = server.machine.run("pusher-agent", *argv, check=False)
    assert done.returncode == 4, done
    assert said in done.stderr
    assert server.machine.says("find", "/etc", "/opt", "-newer", "/etc/key.pub", "-name", "*ssh*") == before


def test_only_root_sets_apps_up(server: Server) -> None:
    done = server.machine.run("pusher-agent", "app", "add", OTHER, user="alice", check=False)
    assert (done.returncode, "set up by root" in done.stderr) == (4, True), done
