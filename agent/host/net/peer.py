"""Who the caller is: the kernel says it, never the caller.

Invariant: a caller has a uid only if the kernel named the process that holds the other end of this very
connection open now. Whatever is doubtful is anonymous. Everything here blocks for a moment (NSS may ask a
network): call it in a thread.

For a unix socket, SO_PEERCRED names the caller. For TCP on loopback, the kernel is asked who owns the client's
socket, which is the one with our two addresses swapped. Four rules make that answer safe to believe:

1. The state is ESTABLISHED, FIN_WAIT1 or FIN_WAIT2, and the inode is not 0. Kernels like Debian 12's report a
   socket that its owner has closed with uid 0: without this rule any user becomes root by sending and closing.
   (An exact look-up that finds no connection may also return a listener at that port, or a TIME_WAIT remnant.)
2. Two look-ups agree. `/proc` formats uid and inode of one line by two separate reads, so a socket that is
   closed between them shows uid 0 beside its inode, once.
3. Our own end is still connected afterwards. Only one connection can have these addresses at a time. But one
   that was reset lingers in the listening queue with what it sent, while another process may connect from the
   same port.
4. uid 65534 is anonymous: the kernel cannot express that user in our user namespace.

There are two ways to ask because neither is enough. Netlink finds the one socket by its hash, measured 20 us to
70 us with any number of connections. But a kernel without `tcp_diag`, or a unit's filter of address families,
does not answer it. The table in `/proc` can always be read, but reading it takes 5 ms on an idle host and 50 ms
with 15,000 connections, twice for each connection: as the only way it would let any stranger keep a core busy.
"""

import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

from agent.host.net import proc
from agent.host.net.proc import Address
from agent.host.net.sock_diag import OPEN, Owner, SockDiag, netlink_owner

_UNMAPPED = 65534
_CONNECTED = frozenset({1, 8})  # ESTABLISHED, CLOSE_WAIT: states of our end while the other end is open


@dataclass(frozen=True, slots=True)
class Caller:
    """The user that opened a connection; `uid` None is anonymous. `login` is empty if the uid has no account."""

    uid: int | None
    login: str = ""

    @property
    def name(self) -> str:
        """For people: `alice (uid 1000)`, `uid 1000` or `anonymous`."""
        if self.uid is None:
            return "anonymous"
        return f"{self.login} (uid {self.uid})" if self.login else f"uid {self.uid}"


ANONYMOUS = Caller(None)


FindOwner = Callable[[Address, Address], Owner | None]
"""Finds the owner of the socket that is bound to the first address and connected to the second."""


def identify(connection: socket.socket, *, find_owner: FindOwner | None = None) -> Caller:
    """The caller at the other end of an accepted connection. Ask before a byte of it is read."""
    return caller_of(uid_of(connection, find_owner=find_owner))


def uid_of(connection: socket.socket, *, find_owner: FindOwner | None = None) -> int | None:
    """As `identify`, without the look-up of a name, which costs ten times as much; None is anonymous."""
    uid = None
    with suppress(OSError):  # the caller is gone already
        if connection.family == socket.AF_UNIX:
            uid = _unix_uid(connection)
        elif connection.family == socket.AF_INET:
            uid = tcp_uid(connection, find_owner=find_owner or owner)
    return None if uid == _UNMAPPED else uid


class Unanswered(Exception):
    """Netlink does not say whose a socket is."""


def uid_at_once(connection: socket.socket, diag: SockDiag) -> int | None:
    """As `uid_of`, by netlink alone: it takes microseconds and never blocks. Raises: Unanswered."""

    def ask(client: Address, server: Address) -> Owner | None:
        try:
            return diag.owner(client, server)
        except OSError as error:
            raise Unanswered from error

    return uid_of(connection, find_owner=ask)


def caller_of(uid: int | None) -> Caller:
    """The caller with this uid, and its name. May ask a network (NSS)."""
    return ANONYMOUS if uid is None else Caller(uid, login_of(uid))


def may_deploy(caller: Caller, *, own_uid: int, group: str) -> bool:
    """Whether the caller is root, the agent's own user, or a member of `group` (primary or supplementary).

    Membership is read from the account database each time, not from the calling process: a removed member loses
    the right at once, and a new one has it without logging in again.
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


def may_watch(caller: Caller, *, own_uid: int, group: str, users: Collection[str]) -> bool:
    """Whether the caller may deploy, or is one of `users`. The account database is asked each time."""
    if may_deploy(caller, own_uid=own_uid, group=group):
        return True
    return caller.uid is not None and caller.uid in {uid_named(user) for user in users}


def uid_named(login: str) -> int | None:
    """The uid of an account; None if there is no such account."""
    try:
        return pwd.getpwnam(login).pw_uid
    except KeyError:
        return None


def login_of(uid: int) -> str:
    """The account's name; empty if the uid has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def tcp_uid(connection: socket.socket, *, find_owner: FindOwner) -> int | None:
    """The uid that owns the client's end of an accepted TCP connection on this host; None if in doubt."""
    client, server = connection.getpeername(), connection.getsockname()
    found = find_owner(client, server)
    if found is None or found != find_owner(client, server):
        return None
    own_state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return found.uid if own_state in _CONNECTED else None


def owner(client: Address, server: Address, *, ask: FindOwner | None = None) -> Owner | None:
    """The owner of a socket: by netlink (or `ask`), and by `/proc` if that does not answer. Raises: OSError."""
    try:
        return (ask or netlink_owner)(client, server)
    except OSError:
        # ENOENT as well: a kernel without the module for TCP says the same as one that has no such socket.
        return proc_owner(client, server)


def proc_owner(client: Address, server: Address) -> Owner | None:
    """Ask the kernel's table of TCP sockets. Raises: OSError, if it cannot be read."""
    return first_open(proc.tcp_connections(client, server))


def first_open(found: Iterable[proc.TcpSocket]) -> Owner | None:
    """The owner of the first socket that is still held open."""
    return next((Owner(one.uid, one.inode) for one in found if one.state in OPEN and one.inode), None)


def _unix_uid(connection: socket.socket) -> int:
    """The uid of the process that called `connect`; the kernel keeps it even after that process has ended."""
    credentials = struct.Struct("=iII")  # pid, uid, gid
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return int(credentials.unpack(raw)[1])
