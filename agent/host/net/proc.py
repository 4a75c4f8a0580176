"""The kernel's tables of sockets, `/proc/self/net/tcp`, `tcp6` and `unix`: the only place that reads them.

Formats: proc_net_tcp in the kernel's documentation, proc_pid_net(5) for `unix`. `/proc/net` itself is missing
under `ProcSubset=pid`, `/proc/self/net` is not.
"""

import ipaddress
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

NET = Path("/proc/self/net")

ESTABLISHED, LISTEN = 0x01, 0x0A
"""States of a TCP socket (include/net/tcp_states.h)."""
CONNECTING = 0x02
"""State of a unix socket that no one has accepted yet: SS_CONNECTING (linux/net.h)."""

Address = tuple[str, int]
"""A host in its usual spelling, and a port."""


class TcpSocket(NamedTuple):
    """One row of the tables. `queued` counts unread bytes; for a listening socket, connections to be accepted.

    `inode` is 0 for a connection that no process has accepted, and for one that its owner has closed.
    """

    state: int
    host: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    queued: int
    uid: int
    inode: int


def tcp_sockets(*, port: int, net: Path = NET) -> Iterator[TcpSocket]:
    """Every TCP socket whose own port is this one, of both families. A family that is missing has none."""
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (net / name).read_bytes().splitlines()[1:]:
                if int(line.split(maxsplit=2)[1].rpartition(b":")[2], 16) == port:
                    yield _parsed(line)


def tcp_connections(local: Address, remote: Address, *, net: Path = NET) -> Iterator[TcpSocket]:
    """The sockets over IPv4 between exactly these two addresses. Raises: OSError.

    More than one: the kernel may list remnants of earlier connections, and a socket twice while others open some.
    """
    # Searched, not parsed: a host with 15,000 connections would be busy for too long.
    return connections_in((net / "tcp").read_bytes(), local, remote)


def connections_in(table: bytes, local: Address, remote: Address) -> Iterator[TcpSocket]:
    """As `tcp_connections`, in a table of the form of `/proc/self/net/tcp`."""
    wanted = b" %s %s " % (spelled(local), spelled(remote))
    at = table.find(wanted)
    while at != -1:
        end = table.find(b"\n", at)
        yield _parsed(table[table.rfind(b"\n", 0, at) + 1 : len(table) if end == -1 else end])
        at = table.find(wanted, at + 1)


def unix_states(path: str, *, net: Path = NET) -> list[int]:
    """The state of each unix socket with this path; none where the table is missing."""
    with suppress(OSError):
        rows = [line.split() for line in (net / "unix").read_text("utf-8", errors="replace").splitlines()[1:]]
        return [int(row[5], 16) for row in rows if row[7:8] == [path]]
    return []


def spelled(address: Address) -> bytes:
    """An IPv4 address and port as the tables spell them: words in the machine's byte order."""
    host = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return b"%08X:%04X" % (host, address[1])


def _parsed(line: bytes) -> TcpSocket:
    """Columns: number, own address, other address, state, queues, timer, retransmissions, uid, timeout, inode."""
    columns = line.split()
    host, _, port = columns[1].rpartition(b":")
    queued = int(columns[4].rpartition(b":")[2], 16)
    return TcpSocket(int(columns[3], 16), _host(host), int(port, 16), queued, int(columns[7]), int(columns[9]))


def _host(text: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    words = [bytes.fromhex(text[at : at + 8].decode()) for at in range(0, len(text), 8)]
    return ipaddress.ip_address(b"".join(word[::-1] if sys.byteorder == "little" else word for word in words))
