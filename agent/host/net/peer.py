"""Who is calling: told by the kernel, never by the caller.

Invariant: a caller has a uid only if the kernel named the process that holds the other end of this very
connection open now; whatever is doubtful is anonymous. Everything here blocks for a moment (NSS may ask a
network): call it in a thread.

A unix socket tells by SO_PEERCRED. For TCP on loopback the kernel is asked who owns the client's socket,
which is the one with our two addresses swapped. Four things make that answer safe to believe:

- the state is ESTABLISHED, FIN_WAIT1 or FIN_WAIT2, and the inode is not 0. Kernels like Debian 12's report a
  socket that its owner has closed with uid 0: without this rule anybody becomes root by sending and
  closing. (An exact look-up that finds no connection may also answer with a listener of that port, or with
  a TIME_WAIT remnant.)
- two look-ups agree. `/proc` formats uid and inode of one line by two separate reads, so that a socket that
  is closed between them shows uid 0 beside its inode, once.
- afterwards our own end is still connected. Only one connection can have these addresses at a time; but one
  that was reset lingers in the listening queue with what it sent, while somebody else may connect from the
  same port.
- uid 65534 means that the kernel cannot express who it is in our user namespace.

There are two ways to ask because neither is enough. Netlink finds the one socket by its hash, measured 20
us to 70 us with any number of connections, but a kernel without `tcp_diag`, or a unit's filter of address
families, does not answer it. The table in `/proc` can always be read, and walking it takes 5 ms on an idle
host and 50 ms with 15,000 connections, twice for each connect: as the only way it would let any stranger
keep a core busy.
"""

import grp
import os
import pwd
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

Address = tuple[str, int]

_UNMAPPED = 65534
_OPEN = frozenset({1, 4, 5})  # ESTABLISHED, FIN_WAIT1, FIN_WAIT2: the states in which an owner still holds it open
_CONNECTED = frozenset({1, 8})  # ESTABLISHED, CLOSE_WAIT: the states of our end while the other end is open


@dataclass(frozen=True, slots=True)
class Caller:
    """Who opened a connection; `uid` None is anonymous. `login` is empty where the uid has no account."""

    uid: int | None
    login: str = ""

    @property
    def name(self) -> str:
        """For people: `alice (uid 1000)`, `uid 1000` or `anonymous`."""
        if self.uid is None:
            return "anonymous"
        return f"{self.login} (uid {self.uid})" if self.login else f"uid {self.uid}"


ANONYMOUS = Caller(None)


class Owner(NamedTuple):
    """Who holds a socket open, as the kernel reports it."""

    uid: int
    inode: int


Look = Callable[[Address, Address], Owner | None]
"""Finds the owner of the socket that is bound to the first address and connected to the second."""


def identify(connection: socket.socket) -> Caller:
    """The caller at the other end of an accepted connection; to be asked before a byte of it is read."""
    uid = None
    with suppress(OSError):  # gone already
        if connection.family == socket.AF_UNIX:
            uid = _unix_uid(connection)
        elif connection.family == socket.AF_INET:
            uid = tcp_uid(connection)
    if uid is None or uid == _UNMAPPED:
        return ANONYMOUS
    return Caller(uid, _login(uid))


def may_deploy(caller: Caller, *, own_uid: int, group: str) -> bool:
    """Whether the caller is root, the agent's own user, or a member of `group` (primary or supplementary).

    Membership is looked up in the account database each time, not taken from the calling process: who was
    taken out of the group has lost the right at once, and nobody has to log in again to have it.
    """
    if caller.uid is None:
        return False
    if caller.uid in (0, own_uid):
        return True
    try:
        account, wanted = pwd.getpwuid(caller.uid), grp.getgrnam(group).gr_gid
    except KeyError:
        return False
    return wanted in os.getgrouplist(account.pw_name, account.pw_gid)


def tcp_uid(connection: socket.socket, *, look: Look | None = None) -> int | None:
    """The uid that owns the client's end of an accepted TCP connection on this host; None if in doubt."""
    look = look or _owner
    client, server = connection.getpeername(), connection.getsockname()
    owner = look(client, server)
    if owner is None or owner != look(client, server):
        return None
    own_state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return owner.uid if own_state in _CONNECTED else None


def netlink_owner(client: Address, server: Address) -> Owner | None:
    """Ask for exactly one socket by NETLINK_SOCK_DIAG (sock_diag(7), linux/inet_diag.h). Never waits.

    Raises: OSError, where the kernel does not answer such questions; ENOENT also if there is no such socket.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_SOCK_DIAG) as netlink:
        netlink.send(diag_request(client, server))
        answer = netlink.recv(4096)  # the kernel answers before `send` returns
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        raise OSError(-code, os.strerror(-code))
    _, state, uid, inode = _DIAG_MESSAGE.unpack_from(answer, _HEADER.size)
    return Owner(uid, inode) if state in _OPEN and inode else None


def proc_owner(client: Address, server: Address) -> Owner | None:
    """Look the socket up in `/proc/self/net/tcp` (proc_net_tcp in the kernel's documentation).

    `/proc/net` itself is missing under `ProcSubset=pid`. Raises: OSError.
    """
    return owner_in_table(Path("/proc/self/net/tcp").read_bytes(), client=client, server=server)


def owner_in_table(table: bytes, *, client: Address, server: Address) -> Owner | None:
    """The owner of one socket in a table of the form of `/proc/net/tcp`."""
    wanted = b" %s %s " % (_hex(client), _hex(server))
    at = table.find(wanted)
    while at != -1:
        # After the addresses: state, queues, timer, retransmissions, uid, timeout, inode.
        fields = table[at + len(wanted) : table.find(b"\n", at)].split()
        if int(fields[0], 16) in _OPEN and int(fields[6]):
            return Owner(int(fields[4]), int(fields[6]))
        at = table.find(wanted, at + 1)
    return None


def diag_request(client: Address, server: Address) -> bytes:
    """The netlink message that asks for one TCP socket over IPv4: header and `inet_diag_req_v2`, no dump."""
    # No extensions; all states, which an exact look-up ignores; any interface; no cookie.
    body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    body += _pair(client, server) + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body


_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_DIAG_MESSAGE = struct.Struct("=BB62xII")  # of inet_diag_msg: family, state, uid, inode


def _unix_uid(connection: socket.socket) -> int:
    """The uid of who called `connect`, kept by the kernel even after they have gone."""
    credentials = struct.Struct("=iII")  # pid, uid, gid
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return int(credentials.unpack(raw)[1])


def _owner(client: Address, server: Address) -> Owner | None:
    try:
        return netlink_owner(client, server)
    except OSError:
        # ENOENT as well: a kernel that lacks the module for TCP says the same as one that has no such socket.
        return proc_owner(client, server)


def _pair(client: Address, server: Address) -> bytes:
    """Both ports and both addresses, as `inet_diag_sockid` begins."""
    ports = struct.pack("!HH", client[1], server[1])
    return ports + b"".join(socket.inet_aton(host).ljust(16, b"\0") for host, _ in (client, server))


def _hex(address: Address) -> bytes:
    host = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return b"%08X:%04X" % (host, address[1])


def _login(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
