"""Who listens at an address of this machine, as the kernel tells it."""

import os
import socket
from pathlib import Path

import pytest

from pusher.transport.listener import Listener, listeners, stranger, trusted, unix_owner, user

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def proc(folder: Path, *, tcp: str = "", tcp6: str | None = None) -> Path:
    (folder / "tcp").write_text(HEAD + tcp)
    if tcp6 is not None:
        (folder / "tcp6").write_text(HEAD + tcp6)
    return folder


def row(local: str, *, state: str = "0A", uid: int = 1001, inode: int = 77) -> str:
    return (
        f"   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1\n"
    )


ANY4, LOOPBACK, OTHER = "00000000:2328", "0100007F:2328", "0200007F:2328"
ANY6, LOOPBACK6 = "0" * 32 + ":2328", "00000000000000000000000001000000:2328"
MAPPED, MAPPED_ANY = "0000000000000000FFFF00000100007F:2328", "0000000000000000FFFF000000000000:2328"


@pytest.mark.parametrize("local", [ANY4, LOOPBACK])
def test_who_listens_at_an_address_or_at_all_is_found(local: str, tmp_path: Path) -> None:
    assert listeners("127.0.0.1", 9000, proc=proc(tmp_path, tcp=row(local))) == {Listener(1001, 77)}


@pytest.mark.parametrize("local", [ANY6, MAPPED, MAPPED_ANY])
def test_a_socket_of_ipv6_that_takes_ipv4_is_found(local: str, tmp_path: Path) -> None:
    assert listeners("127.0.0.1", 9000, proc=proc(tmp_path, tcp6=row(local))) == {Listener(1001, 77)}


@pytest.mark.parametrize(("local", "there"), [(ANY6, True), (LOOPBACK6, True), (MAPPED, False)])
def test_at_an_address_of_ipv6_those_count_that_take_it(local: str, there: bool, tmp_path: Path) -> None:
    assert bool(listeners("::1", 9000, proc=proc(tmp_path, tcp=row(ANY4), tcp6=row(local)))) is there


@pytest.mark.parametrize(
    "line",
    [row(OTHER), row(LOOPBACK, state="01"), row(LOOPBACK.replace("2328", "2329")), row(LOOPBACK, state="06")],
)
def test_other_sockets_do_not_count(line: str, tmp_path: Path) -> None:
    assert listeners("127.0.0.1", 9000, proc=proc(tmp_path, tcp=line)) == frozenset()


def test_where_the_kernel_does_not_tell_that_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        listeners("127.0.0.1", 9000, proc=tmp_path)


def test_root_the_agent_oneself_and_the_one_who_is_named_may_be_an_agent() -> None:
    assert {0, os.geteuid()} <= trusted()
    assert 1 in trusted("daemon")
    assert trusted("no-such-user") == trusted()
    assert stranger(frozenset({Listener(0, 1), Listener(os.geteuid(), 2)})) == ""
    assert stranger(frozenset({Listener(0, 1), Listener(12_345, 2)})) == "uid 12345"
    assert stranger(frozenset({Listener(1, 1)})) == "daemon (uid 1)"
    assert stranger(frozenset({Listener(1, 1)}), owner="daemon") == ""
    assert user(0) == "root (uid 0)"


def test_the_real_kernel_names_a_socket_of_ours(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        found = listeners("127.0.0.1", sock.getsockname()[1])
        assert found == {Listener(os.geteuid(), os.fstat(sock.fileno()).st_ino)}
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
        assert unix_owner(client) == os.geteuid()
