"""Listening sockets: the public one of an app, and private ones in the file system.

A path of a unix socket has at most 107 bytes (`sun_path`, unix(7)), which a deep `--root` exceeds. So every
unix path here goes through `/proc/self/fd/<folder>/<name>`: the folder is opened, and the kernel is given a
short name for it.
"""

import errno
import ipaddress
import os
import pwd
import re
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.core.config import parse_listen
from pusher.wire import Code, Refused

BACKLOG = 4_096
"""How many connections may wait while nothing accepts; the kernel caps it at net.core.somaxconn."""

_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h


def listen(address: str) -> socket.socket:
    """A listening socket at `address` (as in an app's `listen`, a unix path already beneath the root).

    A unix socket is open to everybody, as systemd's are; a dead one in its place is replaced. Blocking.
    Raises: Refused(port_taken), naming the process that has it if the machine tells; Refused(configuration)
    for an address that this machine does not have, or the agent may not use.
    """
    where = parse_listen(address)
    if isinstance(where, str):
        return _listen_public_unix(Path(where))
    host, port = where
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Otherwise connections of an earlier listener, still in TIME_WAIT, would keep the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "[::]" means both families, whatever net.ipv6.bindv6only says; as systemd's BindIPv6Only=both.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _refusal(address, error, who=_who_listens(port)) from error
    return sock


def taken_by(address: str) -> Refused:
    """What is said of an address (as in an app's `listen`) that somebody else was found to have. Blocking."""
    where = parse_listen(address)
    who = "another process" if isinstance(where, str) else _who_listens(where[1])
    return _refusal(address, OSError(errno.EADDRINUSE, ""), who=who)


def check_free(address: str) -> None:
    """Whether a TCP address could be had, told without trying: for ports that only root may try. Blocking.

    One that is only partly in the way (the other family's) is left for the one who tries.
    Raises: Refused(port_taken), naming the process that has it if the machine tells.
    """
    where = parse_listen(address)
    if isinstance(where, str):
        return
    ours = ipaddress.ip_address(where[0])
    for state, local in _tcp_places(port=where[1]):
        met = local.version == ours.version and (local == ours or local.is_unspecified or ours.is_unspecified)
        if state == _LISTEN and met:
            raise taken_by(address)


def kernels_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as the kernel's tables spell it, in words of the machine's order (proc_net_tcp(5))."""
    words = [bytes.fromhex(text[at : at + 8]) for at in range(0, len(text), 8)]
    return ipaddress.ip_address(b"".join(word[::-1] if sys.byteorder == "little" else word for word in words))


def listen_unix(path: Path, *, mode: int) -> socket.socket:
    """A listening unix socket at `path`, of any length, with exactly these permissions. Raises: OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as short:
            # Nobody can connect before listen(), so the mode set in between is the only one ever seen.
            sock.bind(short)
            os.chmod(short, mode)
            sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def alive_unix(path: Path) -> bool:
    """Whether somebody listens at this path. Does not wait: a full backlog counts as somebody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, short_path(path) as short:
        probe.setblocking(False)
        try:
            probe.connect(short)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True
    return True


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name of at most 107 bytes for `path`, while the context lasts. Raises: OSError, for its folder."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def taken(sock: socket.socket) -> bool:
    """Whether anybody accepts from this listening socket, asked while a connection to it stays unanswered.

    Takes nothing away, as accept() would: on the public socket that would hang up on a visitor. If something
    waits in the backlog, a socket may still be taken by an app that is stuck; over TCP the kernel tells: a
    connection has no inode until it is accepted. Blocking.
    """
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if not poll.poll(0):
        return True
    if sock.family == socket.AF_UNIX:
        return False
    rows = _tcp_rows(port=sock.getsockname()[1])
    return any(inode != "0" for state, _, inode in rows if state != _LISTEN)


def _listen_public_unix(path: Path) -> socket.socket:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_socket() and not alive_unix(path):
            path.unlink()
        return listen_unix(path, mode=0o666)
    except OSError as error:
        raise _refusal(f"unix:{path}", error, who="another process") from error


def _refusal(address: str, error: OSError, *, who: str) -> Refused:
    what = f"Cannot listen at {address}"
    if error.errno == errno.EADDRINUSE:
        hint = "Stop it, or give the app another `listen` address."
        return Refused(Code.PORT_TAKEN, what, why=f"it is taken by {who}", hint=hint)
    hints = {
        errno.EACCES: "Ports below 1024 are root's; choose a higher one, or let the agent run as root.",
        errno.EADDRNOTAVAIL: "No network interface of this machine has that address.",
    }
    why = os.strerror(error.errno) if error.errno else str(error)
    return Refused(Code.CONFIGURATION, what, why=why, hint=hints.get(error.errno or 0, ""))


def _who_listens(port: int) -> str:
    """Who has a listening TCP socket at this port, in words."""
    for state, uid, inode in _tcp_rows(port=port):
        if state == _LISTEN:
            return _holder(inode=inode) or f"a process of {_user(uid)}"
    return "another process"


def _tcp_rows(*, port: int) -> Iterator[tuple[str, int, str]]:
    """State, user and inode of every TCP socket whose own port is this one (proc_net_tcp(5))."""
    for columns in _tcp_table(port=port):
        yield columns[3], int(columns[7]), columns[9]


def _tcp_places(*, port: int) -> Iterator[tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address]]:
    """State and own address of every TCP socket whose own port is this one."""
    for columns in _tcp_table(port=port):
        yield columns[3], kernels_address(columns[1].partition(":")[0])


def _tcp_table(*, port: int) -> Iterator[list[str]]:
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        with suppress(OSError):
            for row in Path(table).read_text().splitlines()[1:]:
                columns = row.split()
                if int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns


def _holder(*, inode: str) -> str:
    for process in Path("/proc").iterdir():
        if re.fullmatch(r"\d+", process.name):
            # A process that ends meanwhile, or is somebody else's, cannot be read: it is passed over.
            with suppress(OSError):
                if any(os.readlink(fd) == f"socket:[{inode}]" for fd in (process / "fd").iterdir()):
                    return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return ""


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
