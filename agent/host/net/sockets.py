"""Listening sockets: the public one of an app, and private ones in the file system.

The path of a unix socket has at most 107 bytes (`sun_path`, unix(7)), which a deep `--root` exceeds. So every
unix path here goes through `/proc/self/fd/<folder>/<name>`: the folder is opened, and the kernel is given a
short name for it.
"""

import errno
import ipaddress
import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.core.listen import parse_listen
from agent.host.net import proc
from agent.host.net.socket_holders import find_holder
from agent.host.storage import volatile
from pusher.wire import Code, Refused

BACKLOG = 4_096
"""How many connections may wait while nothing accepts; the kernel caps it at net.core.somaxconn."""


def listen(address: str) -> socket.socket:
    """A listening socket at `address` (as in an app's `listen`, a unix path already beneath the root).

    A unix socket is open to everybody, as systemd's are, and replaces one that nothing listens at. Blocking.
    Raises: Refused(port_taken), naming the process that has the address if it can be seen; Refused(configuration)
    for an address that this machine does not have, or that the agent may not use.
    """
    where = parse_listen(address)
    if isinstance(where, str):
        return _listen_public_unix(Path(where))
    host, port = where
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without this, connections of an earlier listener that are still in TIME_WAIT would keep the port.
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


def occupied(address: str) -> Refused:
    """The refusal of an address (as in an app's `listen`) that another process has. Blocking."""
    where = parse_listen(address)
    who = "another process" if isinstance(where, str) else _who_listens(where[1])
    return _refusal(address, OSError(errno.EADDRINUSE, ""), who=who)


def check_free(address: str) -> None:
    """Check a TCP address without opening it: for ports that only root may open. Blocking.

    A socket of the other family at the same port is ignored: opening the address decides that.
    Raises: Refused(port_taken), naming the process that has the address if it can be seen.
    """
    where = parse_listen(address)
    if isinstance(where, str):
        return
    ours = ipaddress.ip_address(where[0])
    for one in proc.tcp_sockets(port=where[1]):
        if one.state != proc.LISTEN or one.host.version != ours.version:
            continue
        if one.host == ours or one.host.is_unspecified or ours.is_unspecified:
            raise occupied(address)


def listen_unix(path: Path, *, mode: int) -> socket.socket:
    """A listening unix socket at `path`, of any length, with exactly this mode. Blocking. Raises: OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as short:
            # No one can connect before listen(), so the mode set in between is the only one ever seen.
            sock.bind(short)
            os.chmod(short, mode)
            sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def alive_unix(path: Path) -> bool:
    """Whether a process listens at this path. Does not wait: a full backlog counts as one. Raises: OSError."""
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
    """A name of at most 107 bytes for `path`, valid within the context. Raises: OSError, for its folder."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _listen_public_unix(path: Path) -> socket.socket:
    try:
        volatile.make_folder(path.parent)
        if path.is_socket() and not alive_unix(path):
            volatile.remove(path)
        return listen_unix(path, mode=0o666)
    except OSError as error:
        raise _refusal(f"unix:{path}", error, who="another process") from error


def _refusal(address: str, error: OSError, *, who: str) -> Refused:
    what = f"Cannot listen at {address}"
    if error.errno == errno.EADDRINUSE:
        hint = "Stop it, or give the app another `listen` address."
        return Refused(Code.PORT_TAKEN, what, why=f"{who} listens there", hint=hint)
    hints = {
        errno.EACCES: "Ports below 1024 are root's; choose a higher one, or let the agent run as root.",
        errno.EADDRNOTAVAIL: "No network interface of this machine has that address.",
    }
    why = os.strerror(error.errno) if error.errno else str(error)
    return Refused(Code.CONFIGURATION, what, why=why, hint=hints.get(error.errno or 0, ""))


def _who_listens(port: int) -> str:
    """Who has a listening TCP socket at this port, for people."""
    for one in proc.tcp_sockets(port=port):
        if one.state == proc.LISTEN:
            return find_holder(one.inode) or f"a process of {_user(one.uid)}"
    return "another process"


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
