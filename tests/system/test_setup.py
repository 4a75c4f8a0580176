"""From a bare server, reached by ssh, to v3 serving and rolled back, by `pusher` alone."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import make_key
from tests.system.machine import machine
from tests.system.server import APP, REPOSITORY, Server, binds, building, prepare
from tests.system.ssh import Ssh

USER = "deploy"
HEALTH = ("--health", "/version", "--version-member", "version")
pytestmark = pytest.mark.timeout(400)


class Workstation:
    """The machine of the person who sets up servers: a key, an ssh configuration, a project."""

    def __init__(self, folder: Path, ssh: Ssh) -> None:
        self.ssh = ssh
        self.key = folder / "id"
        self.project = folder / "project"
        self.project.mkdir()
        make_key(self.key)
        (self.project / "app-src").symlink_to(REPOSITORY / "app-src")
        (self.project / "pusher.toml").write_text(f'app = "{APP}"\nkey = "{self.key}"\nssh = "{ssh.command}"\n')

    def pusher(self, *words: str) -> tuple[int, str]:
        """Exit code, and everything it wrote."""
        done = subprocess.run(
            self._argv(words), cwd=self.project, env=self._environment(words), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def at_terminal(self, *words: str, answers: dict[str, str]) -> tuple[int, str]:
        """The same at a terminal, where each question is answered once."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self._argv(words), cwd=self.project, env=self._environment(words),
            stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True, preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )  # fmt: skip
        os.close(theirs)
        said, deadline, open_questions = "", time.monotonic() + 120, dict(answers)
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    said += os.read(ours, 65_536).decode(errors="replace")
                except OSError:
                    break
            for question in [one for one in open_questions if one in said]:
                os.write(ours, f"{open_questions.pop(question)}\n".encode())
        os.close(ours)
        return process.wait(10), said

    def _argv(self, words: tuple[str, ...]) -> tuple[str, ...]:
        return (sys.executable, "-m", "pusher", *words)

    def _environment(self, words: tuple[str, ...]) -> dict[str, str]:
        counted = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
        own = building() | counted if words[0] == "setup" else os.environ  # it may build the package
        return own | {"PYTHONPATH": str(REPOSITORY)}


@pytest.fixture
def bare(
    tmp_path_factory: pytest.TempPathFactory, package: Path, uv_cache: Path, flask_venv: Path
) -> Iterator[Server]:
    """A server with Debian, and a user who may use sudo."""
    folder = tmp_path_factory.mktemp("bare")
    with machine(folder / "web1", "web1", prepare=prepare, options=binds()) as host:
        host.run("useradd", "--create-home", "--shell", "/bin/bash", USER)
        (host.root / "etc/sudoers.d").mkdir(exist_ok=True)
        (host.root / "etc/sudoers.d/deploy").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
        yield Server(host, folder=folder, uv_cache=uv_cache, package=package)


@pytest.fixture
def workstation(bare: Server, tmp_path: Path) -> Workstation:
    (tmp_path / "ssh").mkdir()
    ssh = Ssh(tmp_path / "ssh")
    ssh.open(bare.machine, users=(USER,))
    return Workstation(tmp_path, ssh)


def test_four_commands_lead_from_a_bare_server_to_v3_and_back(
    bare: Server, workstation: Workstation, package: Path
) -> None:
    code, said = workstation.pusher("doctor", "--host", "web1")
    assert code == 4
    assert "BAD   no agent is installed there\n        pusher setup --host web1\n" in said
    bare.fill_cache()  # the host has no way out

    commands = (
        ("setup", "--host", "web1", *HEALTH, "--yes"),  # it builds the package of this checkout
        ("send", "v2", "--host", "web1"),
        ("send", "v3", "--host", "web1"),
        ("rollback", "--host", "web1"),
    )
    began, seconds = time.monotonic(), []
    for words in commands:
        at = time.monotonic()
        code, said = workstation.pusher(*words)
        assert code == 0, f"{words}\n{said}\n{bare.log()}"
        assert words[0] != "setup" or f"building the package of {REPOSITORY}\n" in said
        seconds.append(f"{words[0]} {time.monotonic() - at:.1f} s")
        if words[1] == "v3":
            assert bare.version() == "v3"
    assert bare.version() == "v2"
    took = time.monotonic() - began
    print(f"\nfrom a bare server to v3 and back: {len(commands)} commands, {took:.0f} s ({', '.join(seconds)})")
    assert took < 120

    code, said = workstation.pusher(*commands[0], "--package", str(package))
    assert code == 0, said
    assert "to do:" not in said
    assert said.count("already so:") == 4
    assert bare.version() == "v2"

    code, said = workstation.pusher("doctor", "--host", "web1")
    print(said)
    wrong = [line for line in said.splitlines() if line.startswith("BAD")]
    assert [line for line in wrong if "package index" not in line and "name server" not in line] == [], said
    assert "its agent answers you" in said
    assert "your key is trusted there" in said
    assert "the default package index does not answer there" in said  # as it has no way out
    bare.machine.run("mkdir", "--parents", "/etc/systemd/system/pusher-agent.service.d")
    proxy = "[Service]\nEnvironment=https_proxy=http://127.0.0.1:9\n"
    (bare.machine.root / "etc/systemd/system/pusher-agent.service.d/proxy.conf").write_text(proxy)
    bare.machine.run("systemctl", "daemon-reload")
    _, said = workstation.pusher("doctor", "--host", "web1")
    assert "onnection refused" in said, said  # by the proxy, which is asked as the agent would ask it
    with (bare.machine.root / "etc/pusher-agent/apps/flask-demo.toml").open("a") as file:
        file.write("[dependencies]\nno_index = true\n")
    _, said = workstation.pusher("doctor", "--host", "web1")
    assert "package index" not in said
    broken(bare, workstation)


def broken(bare: Server, workstation: Workstation) -> None:
    """What is broken on purpose is found, with what to do."""
    run = bare.machine.run
    run("gpasswd", "--delete", USER, "pusher")
    run("systemctl", "mask", "--now", "--runtime", "polkit.service")
    run("sh", "-c", ": >/etc/pusher-agent/allowed_signers")
    _, said = workstation.pusher("doctor", "--host", "web1")
    for words in (
        f"BAD   {USER} is not in group pusher\n        sudo adduser {USER} pusher, there\n",
        "BAD   your key is not trusted there",
        "BAD   polkit.service is masked\n        sudo systemctl restart polkit",
        f"BAD   its agent does not answer you: {USER} (uid ",
        "no key is trusted yet",
    ):
        assert words in said, said
    run("systemctl", "unmask", "--runtime", "polkit.service")
    run("systemctl", "stop", "pusher-agent.socket", "pusher-agent.service")
    _, said = workstation.pusher("doctor", "--host", "web1")
    assert "BAD   pusher-agent.socket is inactive\n        sudo systemctl start pusher-agent.socket" in said


def test_what_is_in_the_way_is_said_before_anything_is_changed(
    bare: Server, workstation: Workstation, package: Path, tmp_path: Path
) -> None:
    root = bare.machine.root
    setup = ("setup", "--host", "web1", "--package", str(package), *HEALTH)
    before = installed(bare)

    code, said = workstation.pusher(*setup)
    assert code == 4
    assert "to do:      install the agent" in said
    assert "there is no terminal to ask at. To do it without a question: --yes" in said.replace("\n  ", ". ")

    other = tmp_path / "other.deb"
    rebuilt(package, other, "s/python3 (>= 3.11~)/python3 (>= 3.13~)/")
    code, said = workstation.pusher("setup", "--host", "web1", "--package", str(other), "--yes")
    assert code == 4
    assert "it is for Python 3.13, and Debian GNU/Linux 12 (bookworm) has 3.11" in said

    rebuilt(package, other, "s/^Architecture: .*/Architecture: riscv64/")
    code, said = workstation.pusher("setup", "--host", "web1", "--package", str(other), "--yes")
    assert (code, "it is for riscv64" in said) == (4, True)

    for wrong, words in ((b"nothing", "it is no ar archive"), (b"!<arch>\n", "it has no control part")):
        other.write_bytes(wrong)
        code, said = workstation.pusher("setup", "--host", "web1", "--package", str(other), "--yes")
        assert (code, words in said) == (2, True), said

    (root / "etc/sudoers.d/deploy").write_text(f"{USER} ALL=(ALL) ALL\n")
    code, said = workstation.pusher(*setup, "--yes")
    assert code == 4
    assert "sudo wants a password, and there is no terminal to ask at" in said

    (root / "usr/bin/sudo").rename(root / "usr/bin/sudo.away")
    code, said = workstation.pusher(*setup, "--yes")
    assert code == 4
    assert "it has no sudo" in said
    assert "Nothing was changed" in said
    (root / "usr/bin/sudo.away").rename(root / "usr/bin/sudo")
    assert installed(bare) == before

    bare.machine.run("chpasswd", stdin=f"{USER}:letmein\n")
    bare.fill_cache()
    code, said = workstation.at_terminal(*setup, answers={"Go on? [y/N]": "y", "password for deploy:": "letmein"})
    assert code == 0, said
    assert "web1 is ready. Next: pusher send" in said
    assert installed(bare).startswith("install ok installed")

    rebuilt(package, other, "s/^Version: .*/Version: 9.9.9/")
    (root / "etc/sudoers.d/deploy").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    code, said = workstation.pusher("setup", "--host", "web1", "--package", str(other), "--yes")
    assert code == 0, said
    assert "to do:      upgrade the agent from " in said
    assert "already so: the app flask-demo is there; its file stays as it is" in said
    assert installed(bare) == "install ok installed 9.9.9"
    code, said = workstation.pusher("setup", "--host", "web1", "--package", str(package), "--yes")
    assert code == 0, said
    assert "already so: the agent is installed: 9.9.9, which is newer than " in said


def installed(server: Server) -> str:
    return server.machine.says("dpkg-query", "-W", "-f=${Status} ${Version}", "pusher-agent")


def rebuilt(package: Path, into: Path, change: str) -> None:
    """The package with another control file."""
    folder = into.with_suffix(".d")
    subprocess.run(("rm", "-rf", folder), check=True)
    subprocess.run(("dpkg-deb", "--raw-extract", package, folder), check=True)
    subprocess.run(("sed", "-i", change, folder / "DEBIAN/control"), check=True)
    subprocess.run(("dpkg-deb", "-Znone", "--build", folder, into), check=True, capture_output=True)
