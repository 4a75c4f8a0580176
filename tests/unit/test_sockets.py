"""Listening sockets: at any path, and with the name of the process that occupies an address."""

import os
import socket
import stat
import subprocess
import sys
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from agent.host.net import sockets
from agent.host.net.accepting import accepts
from pusher.wire import Code, Refused
from tests.ports import free_port


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A path that is too long for a unix socket's address."""
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    return folder / "app.sock"


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    with sockets.short_path(path) as short:
        client.connect(short)
    return client


def test_a_unix_socket_may_lie_at_any_depth(deep: Path) -> None:
    with sockets.listen_unix(deep, mode=0o600) as server, connect(deep) as client:
        client.sendall(b"x")
        with server.accept()[0] as accepted:
            assert accepted.recv(1) == b"x"
        assert stat.S_IMODE(deep.stat().st_mode) == 0o600


def test_a_folder_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sockets.listen_unix(tmp_path / "no/app.sock", mode=0o600)


def test_a_public_unix_socket_is_open_to_every_user(deep: Path) -> None:
    address = f"unix:{deep.parent / 'made' / 'app.sock'}"
    with sockets.listen(address):
        assert stat.S_IMODE((deep.parent / "made/app.sock").stat().st_mode) == 0o666


def test_a_dead_unix_socket_is_replaced_and_a_live_one_is_not(deep: Path) -> None:
    sockets.listen_unix(deep, mode=0o600).close()
    with sockets.listen(f"unix:{deep}"):
        with pytest.raises(Refused) as caught:
            sockets.listen(f"unix:{deep}")
        assert caught.value.code is Code.PORT_TAKEN


def test_a_full_backlog_counts_as_a_listening_process(deep: Path) -> None:
    assert not sockets.alive_unix(deep)
    with sockets.listen_unix(deep, mode=0o600) as server:
        server.listen(0)
        waiting = [connect(deep)]
        assert sockets.alive_unix(deep)
        waiting[0].close()


def test_a_port_can_be_bound_again_at_once_though_connections_linger() -> None:
    port = free_port()
    with sockets.listen(f"127.0.0.1:{port}") as server:
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()  # our side closes first, and is left in TIME_WAIT
        assert client.recv(1) == b""
        client.close()
    sockets.listen(f"127.0.0.1:{port}").close()


def test_any_v6_means_v4_too() -> None:
    port = free_port()
    with sockets.listen(f"[::]:{port}") as server:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port)).close()
            server.accept()[0].close()


def test_one_v6_address_is_just_that() -> None:
    port = free_port()
    with sockets.listen(f"[::1]:{port}"), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_occupied_port_names_the_process_that_has_it(host: str) -> None:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
        port = other.getsockname()[1]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        with pytest.raises(Refused) as caught:
            sockets.listen(address)
    assert caught.value.code is Code.PORT_TAKEN
    comm = Path("/proc/self/comm").read_text().strip()
    assert str(caught.value) == (
        f"Cannot listen at {address}: {comm} (process {os.getpid()}) listens there. "
        "Stop it, or give the app another `listen` address."
    )


@pytest.mark.parametrize(
    ("theirs", "ours", "occupied"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("::1", "[::]", True),
        ("::1", "127.0.0.1", False),
    ],
)
def test_a_port_that_only_root_may_open_is_looked_up_in_the_kernels_tables(
    theirs: str, ours: str, occupied: bool
) -> None:
    with socket.create_server((theirs, 0), family=socket.AF_INET6 if ":" in theirs else socket.AF_INET) as other:
        port = other.getsockname()[1]
        with pytest.raises(Refused) if occupied else nullcontext() as caught:
            sockets.check_free(f"{ours}:{port}")
    if caught is not None:
        assert caught.value.code is Code.PORT_TAKEN
        assert f"(process {os.getpid()})" in caught.value.why
        sockets.check_free(f"{ours}:{port}")


def test_a_unix_path_counts_as_free(tmp_path: Path) -> None:
    sockets.check_free(f"unix:{tmp_path}/a.sock")
    assert sockets.occupied(f"unix:{tmp_path}/a.sock").why == "another process listens there"


def test_an_address_of_another_machine_is_an_error_of_the_configuration() -> None:
    with pytest.raises(Refused) as caught:
        sockets.listen("192.0.2.1:8000")
    assert caught.value.code is Code.CONFIGURATION
    assert "No network interface of this machine" in caught.value.hint


def test_a_socket_is_accepted_from_when_no_connection_waits_or_one_was_accepted() -> None:
    with sockets.listen(f"127.0.0.1:{free_port()}") as server:
        assert accepts(server), "nothing waits"
        first = socket.create_connection(server.getsockname())
        assert not accepts(server)
        first.close()
        assert not accepts(server), "a connection that was closed still waits to be accepted"
        with closing(server.accept()[0]), socket.create_connection(server.getsockname()):
            assert accepts(server), "one waits, but an app that is stuck has accepted another"


def test_a_private_socket_is_not_accepted_from_while_a_connection_waits(deep: Path) -> None:
    with sockets.listen_unix(deep, mode=0o600) as server:
        connect(deep).close()
        assert not accepts(server)
        server.accept()[0].close()
        assert accepts(server)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_process_that_cannot_be_seen_is_named_by_its_user() -> None:
    code = (
        "import sys; from agent.host.net import sockets\n"
        "from pusher.wire import Refused\n"
        "try: sockets.listen(sys.argv[1])\n"
        "except Refused as refused: print(refused.why)\n"
        "try: sockets.listen('[::1]:1')\n"
        "except Refused as refused: print(refused)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        said = subprocess.run(
            (
                "setpriv",
                "--reuid=12345",
                "--clear-groups",
                "--bounding-set=-all",
                sys.executable,
                "-c",
                code,
                address,
            ),
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent.parent.parent,
        ).stdout.splitlines()
    assert said[0] == "a process of user root listens there"
    assert "Cannot listen at [::1]:1: Permission denied. Ports below 1024 are root's" in said[1]
