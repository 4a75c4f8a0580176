"""Remote access is by ssh: a real ssh, a real sshd, and restricted keys."""

import socket
from collections.abc import Iterator

import pytest

from pusher.errors import Unreachable
from pusher.transport.client import Client
from pusher.wire import Event, Happened
from tests.sshd import MISSING, Server
from tests.unit.scripted_door import ScriptedDoor, answer, events

NAME = "app-20261123020055Z"
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(MISSING, reason="runs sshd as root"),
]


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
    door.on("POST", "/apps/app/deployments", answer({"deployment": NAME}, status=202))
    door.on("GET", "/deployments/d/events", events(finished))
    server.admit(f'restrict,port-forwarding,permitopen="{address(door)}"')
    client = Client(server.host(address(door)), ssh=server.ssh)
    assert client.status() == {"app": "a"}
    assert client.deploy("app", [b"x" * 1_000_000]) == NAME
    assert list(client.events("d")) == [finished]
    client.close()
    assert len(door.requests[1].body) == 1_000_000
    assert len({request.connection for request in door.requests}) == 1
    assert {request.headers["Host"] for request in door.requests} == {address(door)}


def test_a_key_restricted_to_another_port_is_unreachable(
    server: Server, door: ScriptedDoor, capfd: pytest.CaptureFixture[str]
) -> None:
    server.admit('restrict,port-forwarding,permitopen="127.0.0.1:1"')
    client = Client(server.host(address(door)), ssh=server.ssh)
    with pytest.raises(
        Unreachable,
        match=r"web1 cannot be reached: ssh ended with exit status 255\. See .*`AllowTcp.* If `ssh -p \d+ \w+@127",
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


def test_a_user_outside_the_group_is_refused(
    server: Server, door: ScriptedDoor, capfd: pytest.CaptureFixture[str]
) -> None:
    (server.folder / "authorized_keys").write_text("")
    client = Client(server.host(address(door)), ssh=server.ssh)
    with pytest.raises(Unreachable, match="exit status 255"):
        client.status()
    assert "Permission denied" in capfd.readouterr().err


def test_with_several_hosts_the_message_of_ssh_is_the_reason(
    server: Server, door: ScriptedDoor, capfd: pytest.CaptureFixture[str]
) -> None:
    (server.folder / "authorized_keys").write_text("")
    client = Client(server.host(address(door)), ssh=server.ssh, may_ask=False)
    with pytest.raises(
        Unreachable, match=r"web1 cannot be reached: .*: Permission denied \(publickey.*\)\. With sev"
    ):
        client.status()
    server.admit('restrict,port-forwarding,permitopen="127.0.0.1:1"')
    # Not the last line, which is "stdio forwarding failed".
    with pytest.raises(Unreachable, match=r"prohibited: open failed\. There: `AllowTcpForwarding local"):
        client.status()
    assert capfd.readouterr().err == ""
    server.admit("restrict,port-forwarding")
    door.on("GET", "/status", answer({"app": "a"}))
    assert client.status() == {"app": "a"}
    client.close()
