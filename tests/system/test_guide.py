"""The way from a bare server to v3 and back, taken from docs/operating.md and typed as it stands there."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import make_key
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
    text = (REPOSITORY / "docs/operating.md").read_text()
    section = re.split(r"^## ", text, flags=re.M)
    found = next(one for one in section if one.startswith(heading))
    return re.findall(r"^```\n(.*?)^```$", found, re.M | re.S)


class Desk:
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
