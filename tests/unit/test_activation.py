"""Sockets that process 1 hands over: taken by the right process, and only where they are what agent.toml says."""

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.host.net.activation import check, handed_over
from pusher.wire import Refused

FILE = Path("/etc/pusher-agent/agent.toml")


@pytest.fixture
def door(tmp_path: Path) -> Iterator[list[socket.socket]]:
    """As pusher-agent.socket has them: two addresses and a unix socket."""
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "api.sock"))
    unix.listen()
    made = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0)), unix]
    yield made
    for sock in made:
        sock.close()


def place(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"{host}:{port}"


def test_what_is_handed_over_is_taken_once_and_left_to_nobody_else(door: list[socket.socket]) -> None:
    first = fcntl.fcntl(door[0], fcntl.F_DUPFD, 200)
    os.set_inheritable(first, True)
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "door", "HOME": "/"}
    (taken,) = handed_over(environment, first=first)
    with taken:
        assert taken.getsockname() == door[0].getsockname()
        assert not taken.get_inheritable()
    assert environment == {"HOME": "/"}
    assert handed_over(environment, first=first) == []


@pytest.mark.parametrize(("pid", "count"), [("1", "3"), ("", ""), ("own", ""), ("own", "x")])
def test_what_is_meant_for_another_process_is_left_alone(pid: str, count: str) -> None:
    pid = str(os.getpid()) if pid == "own" else pid
    assert handed_over({"LISTEN_PID": pid, "LISTEN_FDS": count}, first=3) == []


def test_sockets_at_the_places_of_the_configuration_are_taken(door: list[socket.socket], tmp_path: Path) -> None:
    for one in door[:2]:
        check(door, address=place(one), path=tmp_path / "api.sock", file=FILE)


def test_another_address_than_the_configurations_is_refused(door: list[socket.socket], tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with pytest.raises(
        Refused, match=r"does not hold 127\.0\.0\.1:1 for the agent: .*agent\.toml says .*door apply"
    ):
        check(door, address="127.0.0.1:1", path=path, file=FILE)
    with pytest.raises(Refused, match="does not hold /elsewhere for the agent"):
        check(door, address=place(door[0]), path=Path("/elsewhere"), file=FILE)
    with pytest.raises(Refused, match="does not hold"):
        check(door[:2], address=place(door[0]), path=path, file=FILE)


def test_nothing_beyond_loopback_is_taken_nor_what_does_not_listen(
    door: list[socket.socket], tmp_path: Path
) -> None:
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(tmp_path / "other.sock"))
    other.listen()
    strange = [
        socket.create_server(("0.0.0.0", 0)),
        socket.create_server(("::1", 0), family=socket.AF_INET6),
        socket.socket(socket.AF_INET),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        other,
    ]
    for sock in strange:
        with sock, pytest.raises(Refused, match=r"pusher-agent\.socket listens at"):
            check([*door, sock], address=place(door[0]), path=tmp_path / "api.sock", file=FILE)
