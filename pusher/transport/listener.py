"""Who listens on this machine, and who connects from it: told by the kernel, before a byte is sent.

Invariant: nothing is sent to a listener that is not root's, the agent's, the user's own, or that of the user whom
pusher.toml names (`owner`). Any local user can listen at an address that is free while an agent is down.

A TCP connection belongs to the socket that was listening when it was made. Its owner is looked up before and after
connecting: only where both are the same socket is it certain that the connection went to it.
"""

import ipaddress
import os
import pwd
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

AGENT = "pusher-agent"
"""The user that the package gives to the agent."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_PROC = Path("/proc/self/net")


class Listener(NamedTuple):
    """A listening socket: whose it is, and which."""

    uid: int
    inode: int


def listeners(host: str, port: int, *, proc: Path = _PROC) -> frozenset[Listener]:
    """The sockets that a connection to this address can meet (proc_net_tcp in the kernel's documentation).

    Raises: OSError, where the kernel does not tell.
    """
    wanted = ipaddress.ip_address(host)
    return frozenset(
        Listener(int(row[7]), int(row[9]))
        for row in _rows(proc, port)
        if row[3] == _LISTEN and _meets(_address(row[1]), wanted)
    )


def connected_by(peer: tuple[str, int], own: tuple[str, int], *, proc: Path = _PROC) -> int | None:
    """The user at the other end of a connection from `peer` to our address `own`, both of this machine; None if it
    has no owner any more. An orphan seems to be root's: one without an inode counts as nobody's.

    Raises: OSError, where the kernel does not tell.
    """
    wanted = ipaddress.ip_address(own[0]), own[1]
    for row in _rows(proc, peer[1]):
        far = _address(row[2]), int(row[2].rpartition(":")[2], 16)
        if _address(row[1]) == ipaddress.ip_address(peer[0]) and far == wanted and int(row[9]):
            return int(row[7])
    return None


def unix_owner(connection: socket.socket) -> int:
    """The user who listens at the other end of a connected unix socket (SO_PEERCRED, unix(7))."""
    credentials = struct.Struct("=iII")  # pid, uid, gid
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return int(credentials.unpack(raw)[1])


def trusted(owner: str = "") -> frozenset[int]:
    """The users who may be an agent to us: root, the agent's own, ourselves and `owner`."""
    return frozenset({0, os.geteuid(), *_uids(AGENT), *(_uids(owner) if owner else ())})


def stranger(found: frozenset[Listener], *, owner: str = "") -> str:
    """A user among the owners of these sockets who is not trusted, in words; empty if there is none."""
    strange = sorted({one.uid for one in found} - trusted(owner))
    return user(strange[0]) if strange else ""


def user(uid: int) -> str:
    """A user in words: `mallory (uid 1001)`."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _uids(name: str) -> tuple[int, ...]:
    try:
        return (pwd.getpwnam(name).pw_uid,)
    except KeyError:
        return ()


def _rows(proc: Path, port: int) -> Iterator[list[str]]:
    tables = [(proc / "tcp").read_text("utf-8")]
    with suppress(FileNotFoundError):  # a kernel without IPv6
        tables.append((proc / "tcp6").read_text("utf-8"))
    for table in tables:
        for line in table.splitlines()[1:]:
            row = line.split()
            if int(row[1].rpartition(":")[2], 16) == port:
                yield row


def _address(text: str) -> _Address:
    """An address as the kernel spells it: words in the order of the machine."""
    digits = text.rpartition(":")[0]
    words = [bytes.fromhex(digits[at : at + 8]) for at in range(0, len(digits), 8)]
    return ipaddress.ip_address(b"".join(word[::-1] if sys.byteorder == "little" else word for word in words))


def _meets(bound: _Address, wanted: _Address) -> bool:
    """Whether a socket bound like this takes connections to that address; in doubt it does."""
    if isinstance(bound, ipaddress.IPv6Address):
        if bound.ipv4_mapped:
            return bound.ipv4_mapped in (wanted, ipaddress.IPv4Address(0))
        return bound in (wanted, ipaddress.IPv6Address(0))  # "::" may be meant for IPv4 as well
    return bound == wanted or (bound == ipaddress.IPv4Address(0) and wanted.version == 4)
