"""Whose a TCP socket is, asked of the kernel by its hash: NETLINK_SOCK_DIAG (sock_diag(7), linux/inet_diag.h).

Invariant: an answer is about the socket that was asked for, or it is none.
"""

import errno
import os
import socket
import struct
from typing import NamedTuple

from agent.host.net.proc import Address

OPEN = frozenset({1, 4, 5})
"""ESTABLISHED, FIN_WAIT1, FIN_WAIT2: the owner still holds the socket open."""


class Owner(NamedTuple):
    """The user that holds a socket open, and the socket's inode."""

    uid: int
    inode: int


class SockDiag:
    """A netlink socket that stays open. To open one for each question takes three times as long.

    Not thread-safe. `close` it; it is opened again where it is needed.
    """

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None
        self._asked = 0

    def owner(self, client: Address, server: Address) -> Owner | None:
        """The owner of exactly one socket. Never waits.

        Raises: OSError, where the kernel does not answer; ENOENT also if there is no such socket.
        """
        if self._netlink is None:
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            self._netlink = socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)
        self._asked = self._asked % 0xFFFFFFFF + 1
        try:
            self._netlink.send(diag_request(client, server, number=self._asked))
            answer = self._netlink.recv(4096)  # the kernel answers before `send` returns
        except OSError:
            self.close()  # an answer that comes later must not be taken for that to another question
            raise
        _, kind, _, number, _ = _HEADER.unpack_from(answer)
        if number != self._asked:
            self.close()
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        if kind == _NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", answer, _HEADER.size)
            raise OSError(-code, os.strerror(-code))
        _, state, uid, inode = _DIAG_MESSAGE.unpack_from(answer, _HEADER.size)
        return Owner(uid, inode) if state in OPEN and inode else None

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None


def netlink_owner(client: Address, server: Address) -> Owner | None:
    """As `SockDiag.owner`, for a single question."""
    diag = SockDiag()
    try:
        return diag.owner(client, server)
    finally:
        diag.close()


def diag_request(client: Address, server: Address, *, number: int = 1) -> bytes:
    """The netlink message that asks for one TCP socket over IPv4: header and `inet_diag_req_v2`, no dump."""
    # No extensions; all states (an exact look-up ignores them); any interface; no cookie.
    body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    body += _pair(client, server) + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, number, 0) + body


_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_DIAG_MESSAGE = struct.Struct("=BB62xII")  # of inet_diag_msg: family, state, uid, inode


def _pair(client: Address, server: Address) -> bytes:
    """Both ports and both addresses, as `inet_diag_sockid` begins."""
    ports = struct.pack("!HH", client[1], server[1])
    return ports + b"".join(socket.inet_aton(host).ljust(16, b"\0") for host, _ in (client, server))
