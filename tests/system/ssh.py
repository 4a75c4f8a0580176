"""The way in from elsewhere: the real sshd on booted hosts, and an SSH client configuration that knows them.

`ssh -F {config} web1` comes in as alice, who is a member of the group `pusher`; `web1-mallory` as mallory, who is
in no group. Host keys and user keys are made here; no file of the machine that runs the tests is read.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.host import make_key
from tests.sshd import SSHD
from tests.system.machine import Machine

MEMBER, STRANGER = "alice", "mallory"
_OPTIONS = {
    "BatchMode": "yes",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "UserKnownHostsFile": "{folder}/known_hosts",
    "GlobalKnownHostsFile": "none",
    "ConnectTimeout": "5",
}


class Ssh:
    """Hosts that can be reached by SSH, all by one `config`. `command` is for PUSHER_SSH and `rsync -e`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config"
        self.key = folder / "id"
        self.command = f"ssh -F {self.config}"
        make_key(self.key)
        self.config.touch()
        (folder / "known_hosts").touch()

    def open(self, machine: Machine) -> None:
        """Start sshd on a host, also at every boot to come, and let both users in with `key`."""
        assert SSHD is not None
        root = machine.root
        for path in (root / "etc/ssh").glob("ssh_host_*"):
            path.unlink()
        make_key(root / "etc/ssh/ssh_host_ed25519_key")
        # As the package ships it: what the administrator of this machine made of it is none of ours.
        shutil.rmtree(root / "etc/ssh/sshd_config.d", ignore_errors=True)
        shutil.copy(root / "usr/share/openssh/sshd_config", root / "etc/ssh/sshd_config")
        (root / "etc/systemd/system/ssh.service").unlink(missing_ok=True)  # `machine` masked it
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "enable", "--quiet", "--now", "ssh.service")
        public = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
        with (self.folder / "known_hosts").open("a") as file:
            file.write(f"{machine.address} {public}")
        self.alias(machine.name, machine.address, user=MEMBER)
        self.alias(f"{machine.name}-{STRANGER}", machine.address, user=STRANGER)
        for user in (MEMBER, STRANGER):
            self.admit(machine, user)

    def alias(self, name: str, address: str, *, user: str, key: Path | None = None, **options: str) -> None:
        """Add a `Host` to the client's configuration."""
        found = {"HostName": address, "User": user, "IdentityFile": str(key or self.key)} | _OPTIONS | options
        lines = "".join(f"    {word} {value.format(folder=self.folder)}\n" for word, value in found.items())
        with self.config.open("a") as file:
            file.write(f"Host {name}\n{lines}")

    def admit(self, machine: Machine, user: str, *, key: Path | None = None, options: str = "") -> None:
        """Let a key in as well, with these options in front (sshd(8), AUTHORIZED_KEYS FILE FORMAT)."""
        public = (key or self.key).with_suffix(".pub").read_text()
        add = f"umask 077; mkdir -p /home/{user}/.ssh; cat >>/home/{user}/.ssh/authorized_keys"
        machine.run("sh", "-c", add, user=user, stdin=f"{options} {public}".lstrip())

    def run(self, *words: str, check: bool = True, seconds: float = 30) -> "subprocess.CompletedProcess[str]":
        """`ssh WORDS...`; its output is captured."""
        argv = ("ssh", "-F", str(self.config), *words)
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=seconds, check=check, stdin=subprocess.DEVNULL
        )

    @contextmanager
    def kept_open(self, name: str) -> Iterator[str]:
        """The `ssh` command whose connections to `name` all go through one that is open for the block."""
        path = self.folder / "master"
        self.run("-fNM", "-o", "ExitOnForwardFailure=yes", "-S", str(path), name)
        try:
            yield f"{self.command} -S {path}"
        finally:
            self.run("-O", "exit", "-S", str(path), name)
