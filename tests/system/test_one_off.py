"""One-off commands on a server: what they see, what they may do, and that they end with who began them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.server import APP, COUNTED, REPOSITORY, Server
from tests.system.ssh import Ssh
from tests.terminal import terminal

# What counts the lines run has its own command in the place of ours, which sudo finds first.
PROGRAM = "/usr/local/bin/pusher-agent" if COUNTED else "/usr/bin/pusher-agent"
RULE = f"alice ALL=(root) NOPASSWD: {PROGRAM} app run {APP} -- *\n"
SEES = """
import json, os, sys
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
mine = ("NoNewPrivs", "Seccomp", "CapBnd", "CapEff", "Uid", "Gid", "Umask")
print(json.dumps({"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ),
    "prefix": sys.prefix, "status": {name: status[name] for name in mine},
    "writes": [path for path in (".", "/tmp", "/etc", "../../shared") if os.access(path, os.W_OK)],
    "bus": os.access("/run/dbus/system_bus_socket", os.W_OK)}))
"""
HISTORY = f"agent:9000/apps/{APP}/history"
LINGERS = "import os, signal, time; print(os.getpid(), 'runs', flush=True); time.sleep(600)"
STUBBORN = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]\n"


@pytest.fixture(scope="module")
def sudo(server: Server) -> Iterator[None]:
    file = server.machine.root / "etc/sudoers.d/one-off"
    file.write_text(RULE)
    file.chmod(0o440)
    yield
    file.unlink()


def run_words(ssh: Ssh, host: str = "web1") -> tuple[str, ...]:
    return (sys.executable, "-m", "pusher", "run", "--ssh", ssh.command, "--host", host, "--app", APP, "--")


def pusher_run(ssh: Ssh, *command: str, host: str = "web1", stdin: str = "") -> "subprocess.CompletedProcess[str]":
    argv = (*run_words(ssh, host), *command)
    return subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=60, check=False, cwd=REPOSITORY
    )


def app_run(server: Server, *command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return server.machine.run("pusher-agent", "app", "run", APP, "--", *command, check=check)


def records(server: Server) -> list[dict[str, Any]]:
    """The history of the app."""
    return [json.loads(line) for line in server.machine.says("curl", "-sS", HISTORY).splitlines()]


def commands(server: Server) -> str:
    """The units of one-off commands that are there."""
    return server.says("list-units", "--all", "--plain", "--no-legend", f"{APP}-run-*")


def test_a_command_sees_what_the_app_sees_and_may_do_no_more(live: Server) -> None:
    found = json.loads(app_run(live, "python", "-c", SEES).stdout)
    current = live.machine.says("readlink", "-f", f"/opt/{APP}/current").strip()
    assert found["folder"] == current
    assert found["prefix"] == f"{current}/venv"
    assert found["environment"]["PUSHER_RELEASE"] == current.rpartition("/")[2]
    environment = live.machine.says("cat", f"/proc/{live.main()}/environ").split("\0")
    own = {name: value for name, _, value in (one.partition("=") for one in environment) if name}
    for name in ("PATH", "LANG", "HOME", "USER", "PUSHER_APP", "PUSHER_RELEASE", "PUSHER_VERSION", "VIRTUAL_ENV"):
        assert found["environment"][name] == own[name], name
    status = live.machine.says("cat", f"/proc/{live.main()}/status")
    for name, value in found["status"].items():
        assert f"{name}:\t{value}" in status, (name, value, status)
    assert found["writes"] == ["/tmp"]
    assert not found["bus"]


def test_its_exit_code_comes_back_also_when_a_signal_has_ended_it(live: Server) -> None:
    assert app_run(live, "python", "-c", "raise SystemExit(9)", check=False).returncode == 9
    for number in (2, 9, 15):
        ended = app_run(live, "python", "-c", f"import os; os.kill(os.getpid(), {number})", check=False)
        assert ended.returncode == 128 + number
    assert commands(live) == ""


@pytest.mark.usefixtures("sudo")
def test_who_ran_what_and_how_it_ended_is_in_the_history_and_what_it_wrote_is_not(live: Server, ssh: Ssh) -> None:
    pusher_run(ssh, "python", "-c", "print('the ' + 'secret'); raise SystemExit(3)", "a b")
    *_, began, ended = records(live)
    assert began["what"] == "command"
    assert began["by"].startswith("alice (uid ")
    assert (
        began["command"]
        == "python -c 'print('\"'\"'the '\"'\"' + '\"'\"'secret'\"'\"'); raise SystemExit(3)' 'a b'"
    )
    assert began["release"] == live.machine.says("readlink", f"/opt/{APP}/current").strip().rpartition("/")[2]
    assert (ended["what"], ended["run"], ended["code"]) == ("exited", began["run"], 3)
    assert live.curl(f"/apps/{APP}/status")["history"]["problem"] == ""
    said = live.curl(f"/apps/{APP}/commands?run=x&by=bob&command=y", "-X", "POST", user="alice")
    assert said["code"] == "not_allowed"
    assert records(live)[-1] == ended


def test_without_an_agent_a_command_runs_and_says_that_it_is_not_recorded(live: Server) -> None:
    live.machine.run("systemctl", "stop", "pusher-agent.socket", "pusher-agent.service")
    try:
        done = app_run(live, "python", "-c", "print('runs')")
    finally:
        live.machine.run("systemctl", "start", "pusher-agent.service")
    assert done.stdout == "runs\n"
    assert "warning: this is not in the history of the app" in done.stderr


def test_what_cannot_be_run_is_refused_by_name(live: Server) -> None:
    for words, says in (
        (
            (APP, "--", "flsk", "shell"),
            "'flsk' cannot be run: it is not a program of the live release's venv. Did",
        ),
        ((APP, "--", "/bin/sh"), "Name the program without a folder"),
        ((APP, "--", "../../../../bin/sh"), "Name the program without a folder"),
        ((APP, "--", ""), "must follow `--`"),
        ((APP, "flask"), "must follow `--`"),
        ((APP,), "must follow `--`"),
        (("flask-dem", "--", "flask"), f"There is no app flask-dem. Available: {APP}"),
    ):
        done = live.machine.run("pusher-agent", "app", "run", *words, check=False)
        assert done.returncode == 4, words
        assert says in done.stderr, words
    done = live.machine.run("pusher-agent", "app", "run", APP, "--", "flask", check=False, user="alice")
    assert done.returncode == 4
    assert f"sudo pusher-agent app run {APP} -- flask" in done.stderr


def test_an_app_with_nothing_live_runs_no_command(live: Server) -> None:
    live.machine.run("mv", f"/opt/{APP}/current", f"/opt/{APP}/gone")
    try:
        done = app_run(live, "flask", check=False)
    finally:
        live.machine.run("mv", f"/opt/{APP}/gone", f"/opt/{APP}/current")
    assert done.returncode == 4
    assert f"No command can be run in {APP}: no release is live" in done.stderr


def test_a_drop_in_of_the_administrator_counts_and_what_cannot_be_carried_over_is_refused(live: Server) -> None:
    drop_in = live.machine.root / f"etc/systemd/system/{APP}.service.d/more.conf"
    drop_in.parent.mkdir()
    try:
        drop_in.write_text('[Service]\nEnvironment="MORE=100%% of $HOME" \\\n  OTHER=2\nNice=7\n')
        live.machine.run("systemctl", "daemon-reload")
        code = "import os; print(os.environ['MORE'], os.environ['OTHER'], os.nice(0))"
        assert app_run(live, "python", "-c", code).stdout == "100% of $HOME 2 7\n"
        drop_in.write_text("[Service]\nReadWritePaths=/srv/%p\n")
        live.machine.run("systemctl", "daemon-reload")
        done = app_run(live, "python", "-c", code, check=False)
        assert done.returncode == 4
        assert "ReadWritePaths=/srv/%p" in done.stderr
    finally:
        drop_in.unlink()
        drop_in.parent.rmdir()
        live.machine.run("systemctl", "daemon-reload")


@pytest.mark.usefixtures("sudo")
def test_words_arrive_over_ssh_as_they_were_typed(live: Server, ssh: Ssh) -> None:
    words = ["a b", "it's", '"', "$HOME", "%h", "$$", "*", "--", "--host", "", "\n", "é", ";id", "\\"]
    done = pusher_run(ssh, "python", "-c", SEES, *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["arguments"] == words


@pytest.mark.usefixtures("sudo")
def test_input_output_errors_and_exit_code_travel_over_ssh(live: Server, ssh: Ssh) -> None:
    code = "import sys; print(sys.stdin.read()[::-1]); print('problem', file=sys.stderr); sys.exit(7)"
    done = pusher_run(ssh, "python", "-c", code, stdin="0123456789" * 100_000)
    assert done.stdout == "9876543210" * 100_000 + "\n"
    assert "problem\n" in done.stderr
    assert done.returncode == 7


@pytest.mark.usefixtures("sudo")
def test_without_the_right_to_use_sudo_nothing_runs(live: Server, ssh: Ssh) -> None:
    done = pusher_run(ssh, "flask", host="web1-mallory")
    assert done.returncode == 1
    assert "sudo" in done.stderr


@pytest.mark.usefixtures("sudo")
def test_a_shell_of_the_app_is_interactive_over_ssh_and_gets_ctrl_c(live: Server, ssh: Ssh) -> None:
    with terminal(*run_words(ssh), "flask", "--app", "app", "shell") as person:
        person.until(">>> ")
        person.type("app.name + '!'\n")
        person.until("'app!'")
        # Many short sleeps: Python does not see a signal that comes just before a sleep until that ends.
        person.type("import itertools, time; print('be' + 'gun'); any(map(time.sleep, itertools.repeat(0.1)))\n")
        person.until("begun")
        person.type("\x03")
        person.until("KeyboardInterrupt")
        person.type("import os; os.get_terminal_size() == os.get_terminal_size(0), os.isatty(2)\n")
        person.until("(True, True)")
        person.type("raise SystemExit(11)\n")
        assert person.wait() == 11
    assert commands(live) == ""


@pytest.mark.usefixtures("sudo")
@pytest.mark.parametrize("stubborn", ["", STUBBORN], ids=["willing", "stubborn"])
@pytest.mark.parametrize("at_terminal", [True, False], ids=["at a terminal", "through a pipe"])
def test_a_lost_connection_ends_the_command(live: Server, ssh: Ssh, at_terminal: bool, stubborn: str) -> None:
    words = (*run_words(ssh), "python", "-c", stubborn + LINGERS)
    if at_terminal:
        with terminal(*words) as person:
            person.until("runs")
            os.kill(person.pid, signal.SIGKILL)
    else:
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY
        ) as begun:
            assert begun.stdout
            assert b"runs" in begun.stdout.readline()
            begun.kill()
    live.machine.until(lambda: LINGERS not in live.machine.says("ps", "axww", "-o", "args"), seconds=30)
    live.machine.until(lambda: commands(live) == "", seconds=5, what=commands(live))


@pytest.mark.parametrize("number", ["TERM", "HUP", "KILL"])
def test_whatever_ends_the_caller_ends_the_command(live: Server, number: str) -> None:
    argv = ("pusher-agent", "app", "run", APP, "--", "python", "-c", LINGERS)
    with live.machine.running(*argv) as begun:
        assert begun.stdout
        assert b"runs" in begun.stdout.readline()
        pid = live.machine.says("pgrep", "--full", f"app run {APP}").split()[0]
        live.machine.run("kill", f"-{number}", pid)
        begun.wait(30)
    live.machine.until(lambda: commands(live) == "", seconds=30)
    assert LINGERS not in live.machine.says("ps", "axww", "-o", "args")


def test_the_app_goes_on_while_commands_come_and_go(live: Server, tmp_path: Path) -> None:
    main, version = live.main(), live.version()
    app_run(live, "python", "-c", "open('/tmp/mine', 'w').close()")
    assert (live.main(), live.version()) == (main, version)
