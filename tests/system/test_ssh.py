"""From elsewhere: real ssh, with the user's own configuration, to the real sshd of a booted host."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import make_key
from tests.system.server import APP, REPOSITORY, Server, installed
from tests.system.ssh import MEMBER, Ssh

# Without the last word it would run any command: restrict takes the terminal away, not the shell.
HELD = 'restrict,port-forwarding,permitopen="127.0.0.1:290",command="/usr/sbin/nologin"'


@pytest.fixture(scope="module")
def second(
    ssh: Ssh, tmp_path_factory: pytest.TempPathFactory, uv_cache: Path, image: Path, package: Path
) -> Iterator[Server]:
    """A second server, web2, that trusts the key of the first one's tests."""
    folder = tmp_path_factory.mktemp("second")
    with installed(folder, "web2", image=image, uv_cache=uv_cache, package=package) as made:
        made.add_app("--health", "/version", "--version-member", "version")
        ssh.open(made.machine)
        yield made
        made.uninstall()


def pusher(server: Server, ssh: Ssh, *words: str, **variables: str) -> tuple[int, str]:
    """Exit code, and everything it wrote."""
    environment = {
        "PYTHONPATH": str(REPOSITORY),
        "PUSHER_APP": APP,
        "PUSHER_SOURCE": str(REPOSITORY / "app-src"),
        "PUSHER_KEY": str(server.folder / "key"),
        "PUSHER_SSH": ssh.command,
    }
    done = subprocess.run(
        (sys.executable, "-m", "pusher", *words),
        env=os.environ | environment | variables,
        cwd=ssh.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_member_of_the_group_sends_over_ssh_and_a_stranger_is_told_why_not(live: Server, ssh: Ssh) -> None:
    code, said = pusher(live, ssh, "send", "v2", "--host", "web1")
    assert code == 0, said
    assert live.version() == "v2"
    assert live.curl("/status")["last"]["by"].startswith("alice (uid ")
    for words in (("rollback",), ("send", "v3")):
        code, said = pusher(live, ssh, *words, "--host", "web1-mallory")
        assert code == 4, said
        assert "mallory (uid " in said
        assert "may not deploy on this host" in said
        assert "adduser mallory pusher" in said
    assert live.version() == "v2"


def test_ssh_rsync_and_a_connection_that_is_kept_open_all_come_in(live: Server, ssh: Ssh, tmp_path: Path) -> None:
    assert ssh.run("web1", "id", "-un").stdout == "alice\n"
    assert ssh.run("web1-mallory", "id", "-un").stdout == "mallory\n"
    (tmp_path / "file").write_text("what is sent")
    with ssh.kept_open("web1") as command:
        subprocess.run(("rsync", "-e", command, tmp_path / "file", "web1:file"), check=True, timeout=30)
        code, said = pusher(live, ssh, "status", "--host", "web1", PUSHER_SSH=command)
        assert code == 0, said
    assert (live.machine.root / "home/alice/file").read_text() == "what is sent"


def test_a_key_for_ci_can_deploy_and_nothing_else(live: Server, ssh: Ssh) -> None:
    key = ssh.folder / "ci"
    make_key(key)
    ssh.alias("ci", live.machine.address, user=MEMBER, key=key)
    ssh.admit(live.machine, MEMBER, key=key, options=HELD)
    version = "v3" if live.version() != "v3" else "v2"
    code, said = pusher(live, ssh, "send", version, "--host", "ci")
    assert code == 0, said
    assert live.version() == version
    refused = ssh.run("ci", "id", check=False)
    assert (refused.returncode, refused.stdout) == (1, "This account is currently not available.\n")
    for door in ("127.0.0.1:8000", "127.0.0.1:9000", "127.0.0.1:22", f"{live.machine.address}:8000"):
        refused = ssh.run("-W", door, "ci", check=False)
        assert refused.returncode == 255
        assert "administratively prohibited" in refused.stderr
    copied = subprocess.run(
        ("rsync", "-e", ssh.command, __file__, "ci:file"), capture_output=True, timeout=30, check=False
    )
    assert copied.returncode != 0
    assert b"200 OK" in through_a_socket(live, ssh, "web1")
    assert through_a_socket(live, ssh, "ci") == b""


def through_a_socket(server: Server, ssh: Ssh, name: str) -> bytes:
    """What the agent answers to who comes in by a forwarded unix socket."""
    near = ssh.folder / "near"
    argv = ("ssh", "-F", ssh.config, "-NL", f"{near}:/run/pusher-agent/api.sock", name)
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process, socket.socket(socket.AF_UNIX) as caller:
        try:
            server.machine.until(lambda: caller.connect_ex(str(near)) == 0)
            caller.settimeout(10)
            caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return caller.recv(4096)
        except ConnectionResetError:
            return b""
        finally:
            process.kill()  # a SIGTERM that comes just before it waits is noticed only when something else happens
            near.unlink(missing_ok=True)


def test_what_the_users_own_configuration_says_is_done(live: Server, ssh: Ssh) -> None:
    # From web1 to itself: what counts is that ssh takes the way around.
    address = live.machine.address
    ssh.alias("around", "127.0.0.1", user=MEMBER, ProxyJump="web1", Port="22", HostKeyAlias=address)
    code, said = pusher(live, ssh, "status", "--host", "around", "--json")
    assert code == 0, said
    assert '"host": "web1"' in said


def test_a_dozen_hosts_behind_one_sshd_are_all_let_in(live: Server, ssh: Ssh) -> None:
    names = [f"web1-{number}" for number in range(12)]
    for name in names:
        ssh.alias(name, live.machine.address, user=MEMBER)
    code, said = pusher(live, ssh, "status", *(f"--host={name}" for name in names))
    assert code == 0, said
    assert [line.split()[0] for line in said.splitlines()] == ["HOST", *names]


def test_all_hosts_or_none_on_two_real_ones(live: Server, second: Server, ssh: Ssh) -> None:
    hosts = ("--host", "web1", "--host", "web2")
    code, said = pusher(live, ssh, "send", "v1", *hosts)
    assert code == 0, said
    assert [one.version() for one in (live, second)] == ["v1", "v1"]
    hooks = f"/etc/pusher-agent/hooks/{APP}"
    second.machine.run("mkdir", "-p", hooks)
    second.machine.run(
        *("sh", "-c", f"cat >{hooks}/before-symlink; chmod 755 {hooks}/before-symlink"),
        stdin="#!/bin/sh\necho the table is locked\nexit 3\n",
    )
    code, said = pusher(live, ssh, "send", "v2", *hosts, "--all-or-none")
    second.machine.run("rm", "-r", hooks)
    assert code == 1, said
    assert [one.version() for one in (live, second)] == ["v1", "v1"]
    table = [line.split() for line in said.partition("\nHOST ")[2].splitlines()]
    assert [row[:2] for row in table[1:3]] == [["web1", "taken"], ["web2", "failed"]]
    assert said.rstrip().endswith("the table is locked")
    history = live.curl("/releases")["deployments"]
    assert [one["kind"] for one in history[:2]] == ["rollback", "deploy"]


def test_hosts_that_cannot_be_reached_are_named_with_what_ssh_says(live: Server, second: Server, ssh: Ssh) -> None:
    ssh.alias("web7", live.machine.address, user=MEMBER, Port="1")
    ssh.alias("web8", live.machine.address, user="nobody")
    ssh.alias("web9", live.machine.address, user=MEMBER, HostKeyAlias="unknown")
    names = ("web1", "web7", "web8", "web9", "web2")
    hosts = [word for name in names for word in ("--host", name)]
    before = [one.version() for one in (live, second)]
    code, said = pusher(live, ssh, "send", "v3", *hosts)
    assert code == 5, said
    for reason in ("port 1: Connection refused", "Permission denied (publickey", "Host key verification failed"):
        assert reason in said
    assert "Nothing was changed on any host: web7, web8, web9 cannot be reached" in said
    assert [one.version() for one in (live, second)] == before
    code, said = pusher(live, ssh, "send", "v3", *hosts, "--skip-unreachable", "--in-turn")
    assert code == 0, said
    assert [one.version() for one in (live, second)] == ["v3", "v3"]
    outcomes = [line.split()[1] for line in said.partition("\nHOST ")[2].splitlines()[1:6]]
    assert outcomes == ["done", "skipped", "skipped", "skipped", "done"]
    code, said = pusher(live, ssh, "rollback", "--host", "web1", "--host", "web2")
    assert code == 0, said
    assert [one.version() for one in (live, second)] != ["v3", "v3"]
