"""The way from a bare server to v3 and back, taken from docs/how-to/operating.md and typed as it stands there."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machine import machine
from tests.system.server import REPOSITORY, Server, binds, prepare
from tests.system.ssh import Ssh

USER = "deploy"
WRAPPER = """\
#!/bin/sh
exec /usr/bin/{name} -F {config} "$@"
"""


def blocks(heading: str) -> list[str]:
    """The indented commands of a section of the guide, a block each."""
    text = (REPOSITORY / "docs/how-to/operating.md").read_text()
    section = re.split(r"^## ", text, flags=re.M)
    found = next(one for one in section if one.startswith(heading))
    return re.findall(r"^```\n(.*?)^```$", found, re.M | re.S)


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

    def type(self, commands: str) -> str:
        """Type a block of commands; what they say."""
        done = subprocess.run(
            ("bash", "-e", "-o", "pipefail", "-c", commands),
            cwd=self.checkout,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, package: Path, uv_cache: Path) -> Iterator[Server]:
    """A server with Debian, and a user who may use sudo."""
    folder = tmp_path_factory.mktemp("guide")
    with machine(folder / "web1", "web1", prepare=prepare, options=binds()) as host:
        host.run("useradd", "--create-home", "--shell", "/bin/bash", USER)
        (host.root / "etc/sudoers.d").mkdir(exist_ok=True)
        (host.root / "etc/sudoers.d/deploy").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
        yield Server(host, folder=folder, uv_cache=uv_cache, package=package)


def test_the_guide_leads_from_a_bare_server_to_v3_and_back_as_it_is_written(
    bare: Server, package: Path, flask_venv: Path, tmp_path: Path
) -> None:
    build, install, deploy, workshop = blocks("From a bare server")
    typed = sum(len(block.splitlines()) for block in (build, install, deploy, workshop))
    assert typed <= 15  # as many as a person types from a bare server to v3 and back, twice
    began = time.monotonic()
    (tmp_path / "ssh").mkdir()
    ssh = Ssh(tmp_path / "ssh")
    ssh.open(bare.machine, users=(USER,))
    workstation = Workstation(tmp_path, ssh, package)

    # The package has been built, and wheels that the host would download are in its cache: it has no way out.
    first, copied = build.splitlines()
    assert first == "make deb"
    workstation.type(copied)
    workstation.type(f"ssh web1 bash -e <<'END'\n{install}END\n")
    bare.fill_cache()

    assert workstation.type(deploy).count(" is live on web1") == 4
    assert bare.version() == "v2"
    said = workstation.type(f"ssh web1 bash -e <<'END'\n{workshop}END\n")
    assert "current -> ./releases/" in said
    assert "active (running)" in said
    assert "0.0.0.0:8000" in said
    assert '{"version":"v2"}' in said
    assert bare.version() == "v1"
    print(f"\nfrom a bare server to v3 and back: {typed} commands, {time.monotonic() - began:.0f} s")
