"""A throw-away sshd on loopback, with a key of its own."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pusher.transport.hosts import Host, Ssh

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
USER = pwd.getpwuid(os.geteuid()).pw_name
MISSING = SSHD is None or os.geteuid() != 0
"""sshd can only be run by root."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, and the `ssh` command by which to come in."""

    port: int
    folder: Path
    ssh: str
    process: int

    def sessions(self) -> list[int]:
        """The processes of the connections that are open."""
        children = Path(f"/proc/{self.process}/task/{self.process}/children")
        return [int(one) for one in children.read_text("ascii").split()]

    def host(self, door: str) -> Host:
        return Host("web1", Ssh("127.0.0.1", USER, self.port, door))

    def admit(self, options: str) -> None:
        """Let its key in, with these options in front (sshd(8), AUTHORIZED_KEYS FILE FORMAT)."""
        public = (self.folder / "id.pub").read_text()
        (self.folder / "authorized_keys").write_text(f"{options} {public}")


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server whose files all lie in `folder`."""
    assert SSHD is not None
    for name in ("host_key", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
    )
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host_key.pub').read_text()}")
    # sshd insists on this folder of its own, which a machine without a running one may lack.
    Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        options = f"-F none -i {folder}/id -o UserKnownHostsFile={folder}/known_hosts -o IdentitiesOnly=yes"
        yield Server(port, folder, f"ssh {options} -o BatchMode=yes", process.pid)
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError("sshd does not listen")
