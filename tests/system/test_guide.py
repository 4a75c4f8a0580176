"""The ways from a bare server to v3 and back, typed as they stand in docs/how-to/operating.md, and in
docs/tutorial/atelier.md, to its clean-up.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.documents import blocks
from tests.docs.transcripts import steps, unseen
from tests.system.machine import machine
from tests.system.server import APP, REPOSITORY, Server, binds, prepare
from tests.system.ssh import Ssh

USER = "deploy"
WRAPPER = """\
#!/bin/sh
exec /usr/bin/{name} -F {config} "$@"
"""


def section(heading: str) -> list[str]:
    """The commands of a section of the guide, a block each."""
    text = (REPOSITORY / "docs/how-to/operating.md").read_text()
    found = next(one for one in re.split(r"^## ", text, flags=re.M) if one.startswith(heading))
    return [block for block, _ in steps(found)]


class Workstation:
    """The machine of the person who deploys: a home, a checkout, and a key that lets in and signs."""

    def __init__(self, folder: Path, ssh: Ssh, package: Path) -> None:
        self.home, self.checkout = folder / "home", folder / "checkout"
        commands = folder / "bin"
        for path in (self.home / ".ssh", self.checkout / "dist", commands):
            path.mkdir(parents=True)
        for end in ("", ".pub"):
            shutil.copy(f"{ssh.key}{end}", self.home / f".ssh/id_ed25519{end}")
        shutil.copytree(REPOSITORY / "app-src", self.checkout / "app-src")
        shutil.copy(REPOSITORY / "pusher.toml", self.checkout)
        shutil.copy(package, self.checkout / "dist")
        for name in ("ssh", "scp"):  # they look for a configuration where the user database says, not in $HOME
            (commands / name).write_text(WRAPPER.format(name=name, config=ssh.config))
            (commands / name).chmod(0o755)
        path = f"{commands}:{REPOSITORY / '.venv/bin'}:{os.environ['PATH']}"
        left_out = ("PUSHER_", "SSH_")
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(left_out)} | {
            "HOME": str(self.home),
            "PATH": path,
        }

    def type_on(self, name: str, commands: str) -> str:
        """Type a block of commands on a server, and say yes to what they ask; what they say."""
        return self.type(f"ssh {name} {shlex.quote(f'bash -ec {shlex.quote(commands)}')}", answers="y\n" * 9)

    def type(self, commands: str, *, answers: str = "") -> str:
        """Type a block of commands; what they say."""
        done = subprocess.run(
            ("bash", "-e", "-o", "pipefail", "-c", commands),
            cwd=self.checkout,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            input=answers,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, package: Path, uv_cache: Path) -> Iterator[Server]:
    """A server with Debian, and a user who may use sudo."""
    folder = tmp_path_factory.mktemp("guide")
    with machine(folder / "web1", "web1", prepare=prepare, options=binds()) as found:
        found.run("useradd", "--create-home", "--shell", "/bin/bash", USER)
        (found.root / "etc/sudoers.d").mkdir(exist_ok=True)
        (found.root / "etc/sudoers.d/deploy").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
        yield Server(found, folder=folder, uv_cache=uv_cache, package=package)


class Begun(NamedTuple):
    """A server on which the agent was installed as the guide says it."""

    server: Server
    workstation: Workstation
    before: str
    """What `traces` found when there was nothing of ours."""
    typed: list[str]
    said: str
    took_s: float


@pytest.fixture(scope="module")
def begun(host: Server, package: Path, flask_venv: Path, tmp_path_factory: pytest.TempPathFactory) -> Begun:
    """What both ways begin with, typed once: to install the package takes longer than all that follows."""
    folder = tmp_path_factory.mktemp("workstation")
    (folder / "ssh").mkdir()
    ssh = Ssh(folder / "ssh")
    ssh.open(host.machine, users=(USER,))
    workstation = Workstation(folder, ssh, package)
    before, began = traces(host), time.monotonic()
    build, install, *_ = section("From a bare server")
    # The package has been built, and wheels that the host would download are in its cache: it has no way out.
    first, copied = build.splitlines()
    assert first == "make deb"
    workstation.type(copied)
    said = workstation.type_on("web1", install)
    host.fill_cache()
    return Begun(host, workstation, before, [build, install], said, time.monotonic() - began)


def test_the_workshop_in_french_leads_from_a_bare_server_to_v3_and_back_as_it_is_written(begun: Begun) -> None:
    text = (REPOSITORY / "docs/tutorial/atelier.md").read_text()
    [settings] = [block for language, block in blocks(text) if language == "toml"]
    (set_up, _), (build, _), (install, installed), *rest, _ = steps(text)
    assert set_up == "make venv\nsource .venv/bin/activate\n"
    assert [build, install] == begun.typed
    assert not unseen(installed, begun.said), begun.said
    (begun.workstation.checkout / "pusher.toml").write_text(settings)
    for commands, shown in rest:
        here = commands.startswith("pusher ")
        said = begun.workstation.type(commands) if here else begun.workstation.type_on("web1", commands)
        assert not unseen(shown, said), f"{commands}\n{said}"
    assert begun.server.version() == "v3"


def test_the_guide_leads_from_a_bare_server_to_v3_and_back_as_it_is_written(begun: Begun) -> None:
    server, workstation = begun.server, begun.workstation
    _, _, deploy, workshop = whole = section("From a bare server")
    typed = sum(len(block.splitlines()) for block in whole)
    assert typed <= 15  # as many as a person types from a bare server to v3 and back, twice
    began = time.monotonic()
    assert workstation.type(deploy).count(" is live on web1") == 4
    assert server.version() == "v2"
    said = workstation.type_on("web1", workshop)
    assert "current -> ./releases/" in said
    assert "active (running)" in said
    assert "0.0.0.0:8000" in said
    assert '{"version":"v2"}' in said
    assert server.version() == "v1"
    took_s = begun.took_s + time.monotonic() - began
    print(f"\nfrom a bare server to v3 and back: {typed} commands, {took_s:.0f} s")


def test_the_last_words_of_the_workshop_in_french_leave_nothing_on_the_server(begun: Begun) -> None:
    *_, (commands, shown) = steps((REPOSITORY / "docs/tutorial/atelier.md").read_text())
    said = begun.workstation.type_on("web1", commands)
    assert not unseen(shown, said), said
    assert traces(begun.server) == begun.before


def traces(server: Server) -> str:
    """What there is of ours on a server: files, units, users and groups."""
    files = (
        "find",
        "/etc",
        "/opt",
        "/run",
        "/usr",
        "/var",
        "(",
        "-name",
        "*pusher*",
        "-o",
        "-name",
        f"*{APP}*",
        ")",
    )
    found = [server.machine.says(*files, "-not", "-path", "*/dist-packages/*", "-not", "-path", "/var/log/*")]
    found += [server.machine.says("grep", "-E", f"pusher|{APP}", f"/etc/{name}") for name in ("passwd", "group")]
    return "\n".join(found)
