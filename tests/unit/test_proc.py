"""The kernel's tables of sockets are read as the kernel writes them."""

import ipaddress
import os
import socket
from pathlib import Path

from agent.host.net import proc


def test_a_listening_socket_and_a_connection_are_found_by_their_port() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        host, port = server.getsockname()
        # The kernel may list a socket twice while others are opened, and the port in use at other addresses.
        here = {one for one in proc.tcp_sockets(port=port) if one.host == ipaddress.ip_address(host)}
        listening, waiting = sorted(here, key=lambda one: -one.state)
        assert listening == proc.TcpSocket(
            state=proc.LISTEN,
            host=ipaddress.ip_address(host),
            port=port,
            queued=1,
            uid=os.geteuid(),
            inode=os.fstat(server.fileno()).st_ino,
        )
        assert (waiting.state, waiting.inode) == (proc.ESTABLISHED, 0), "no process has accepted it"
        own, *_ = proc.tcp_connections(client.getsockname(), server.getsockname())
        assert own.inode == os.fstat(client.fileno()).st_ino


def test_both_families_are_read_and_a_missing_one_has_no_sockets(tmp_path: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        hosts = {one.host for one in proc.tcp_sockets(port=server.getsockname()[1])}
        assert ipaddress.ip_address("::1") in hosts
    assert list(proc.tcp_sockets(port=1, net=tmp_path)) == []
    assert proc.unix_states("/a", net=tmp_path) == []


def test_a_table_may_end_without_a_newline() -> None:
    row = b"head\n  1: 0100007F:1234 0100007F:2328 01 00000000:00000000 00:00000000 00000000  7  0 77 1"
    local, remote = ("127.0.0.1", 0x1234), ("127.0.0.1", 0x2328)
    if proc.spelled(local) == b"0100007F:1234":  # a little-endian machine
        (found,) = proc.connections_in(row, local, remote)
        assert (found.uid, found.inode) == (7, 77)
