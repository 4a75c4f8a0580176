"""From elsewhere: real ssh, with the user's own configuration, to the real sshd of a booted host."""

import os
import subprocess
import sys
from pathlib import Path

from tests.system.server import APP, REPOSITORY, Server
from tests.system.ssh import Ssh


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
    code, said = pusher(live, ssh, "rollback", "--host", "web1-mallory")
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
