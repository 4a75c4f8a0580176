"""From elsewhere, ssh is the door: real ssh, a real sshd, and keys that may do this and nothing more."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pusher.client import Client
from pusher.errors import Unreachable
from pusher.hosts import Host, Ssh
from pusher.wire import Event, Happened
from tests.unit.scripted_door import ScriptedDoor, answer, events

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(SSHD is None or os.geteuid() != 0, reason="runs sshd as root"),
]

USER = pwd.getpwuid(os.geteuid()).pw_name


@dataclass(frozen=True, slots=True)
class Server:
    """A throw-away sshd on loopback, and how to come in."""

    port: int
    folder: Path
    ssh: str

    def host(self, door: str) -> Host:
        return Host("web1", Ssh("127.0.0.1", USER, self.port, door))

    def admit(self, options: str) -> None:
        public = (self.folder / "id.pub").read_text()
        (self.folder / "authorized_keys").write_text(f"{options} {public}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    assert SSHD is not None
    folder = tmp_path_factory.mktemp("sshd")
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
    wait_for(port, process)
    options = f"-F none -i {folder}/id -o UserKnownHostsFile={folder}/known_hosts -o IdentitiesOnly=yes"
    yield Server(port, folder, f"ssh {options} -o BatchMode=yes")
    process.terminate()
    process.wait()


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError("sshd does not listen")


@pytest.fixture
def door() -> Iterator[ScriptedDoor]:
    made = ScriptedDoor()
    yield made
    made.close()


def address(door: ScriptedDoor) -> str:
    return door.address.removeprefix("http://")


def test_all_of_a_command_goes_through_one_ssh(server: Server, door: ScriptedDoor) -> None:
    finished = Event(1, 0, Happened.FINISHED, {"outcome": "done"})
    door.on("GET", "/status", answer({"app": "a"}))
    door.on("POST", "/apps/a/deployments", answer({"deployment": "d"}, status=202))
    door.on("GET", "/deployments/d/events", events(finished))
    server.admit(f'restrict,port-forwarding,permitopen="{address(door)}"')
    client = Client(server.host(address(door)), ssh=server.ssh)
    assert client.status() == {"app": "a"}
    assert client.deploy("a", [b"x" * 1_000_000]) == "d"
    assert list(client.events("d")) == [finished]
    client.close()
    assert len(door.requests[1].body) == 1_000_000
    assert len({request.connection for request in door.requests}) == 1
    assert {request.headers["Host"] for request in door.requests} == {address(door)}


def test_a_key_that_is_held_to_another_door_is_told_off(
    server: Server, door: ScriptedDoor, capfd: pytest.CaptureFixture[str]
) -> None:
    server.admit('restrict,port-forwarding,permitopen="127.0.0.1:1"')
    client = Client(server.host(address(door)), ssh=server.ssh)
    with pytest.raises(
        Unreachable, match=r"web1 cannot be reached: ssh ended with exit status 255\. What ssh said"
    ):
        client.status()
    assert "administratively prohibited" in capfd.readouterr().err


def test_a_host_without_an_agent_is_unreachable(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    server.admit("restrict,port-forwarding")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        client = Client(server.host(f"127.0.0.1:{closed.getsockname()[1]}"), ssh=server.ssh)
        with pytest.raises(Unreachable, match="web1 cannot be reached: ssh ended with exit status"):
            client.status()
    assert "Connection refused" in capfd.readouterr().err


def test_a_stranger_is_not_let_in(server: Server, door: ScriptedDoor, capfd: pytest.CaptureFixture[str]) -> None:
    (server.folder / "authorized_keys").write_text("")
    client = Client(server.host(address(door)), ssh=server.ssh)
    with pytest.raises(Unreachable, match="exit status 255"):
        client.status()
    assert "Permission denied" in capfd.readouterr().err
