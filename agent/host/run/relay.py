"""Carries connections to a port on loopback, for a server that cannot be handed a listening socket.

It is executed as a file (`python3 -I -S relay.py ...`) by the runner, and imports only the standard library. It
promises:

- It accepts only when the server does. Until then, connections wait in the queue of the kernel.
- Bytes pass as they are, both ways, each way to its own end. Nothing is read into them, and nothing is added.
- On SIGTERM it accepts nothing more. When nothing is under way, it tells the server to end (SIGTERM), and ends
  itself with the last connection. It never outlives its server for long.

    relay.py --to=HOST:PORT --server=PID [--drain=S]

The listening socket is descriptor 3. After `--drain` seconds the server is told to end in any case. Without it,
the server is a candidate: it is not tried by a connection that says nothing, but by that of the first visitor.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
else:  # as in the runner
    import _signal as signal
    import _socket as socket

FIRST_FD = 3
POLL_S = 0.01  # until the server accepts
RECHECK_S = 0.05  # while it ends
QUIET_S = 0.5
"""An answer may come in pieces. So long after the last one, it is taken to be whole."""
LINGER_S = 5.0
"""So long a visitor may take to hang up after the server has."""
PAUSE_S = 0.2  # after the last descriptor was used up
PIECE = 64 * 1024
HELD_MOST = 256 * 1024
"""So much is kept for a receiver that does not receive. Then its sender waits."""
BATCH = 64
"""So many connections are accepted before those that are there get their turn."""
NETLINK_SOCK_DIAG, DIAGNOSE, REQUEST, ALL = 4, 20, 1, b"\xff\xff\xff\xff"
"""linux/netlink.h, linux/sock_diag.h (SOCK_DIAG_BY_FAMILY); of all: states, and INET_DIAG_NOCOOKIE."""
READ, WRITE, BROKEN = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR


class End:
    """One end of a carried connection. `other` is the other one; `held` is what waits to be sent to this one."""

    __slots__ = ("asked", "fd", "held", "last", "open", "other", "reading", "shut", "sock", "visitor")

    def __init__(self, sock: socket.socket, *, visitor: bool) -> None:
        self.sock = sock
        self.visitor = visitor
        self.fd = sock.fileno()
        self.other: End
        self.held = b""
        self.reading = True
        self.shut = False  # nothing more comes for it
        self.open = True
        self.last = False  # whether the last word was said here
        self.asked = 0  # for which events the kernel was asked


class Server:
    """The server that listens at an address, as process `pid`."""

    def __init__(self, host: str, port: int, pid: int) -> None:
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.address = (host, port)
        # Not by its number: that could be another process when the time comes.
        self.process = os.pidfd_open(pid)
        self.ending = False

    def connect(self, sock: socket.socket) -> socket.socket:
        """Begin a connection with an unused socket."""
        sock.setblocking(False)
        sock.connect_ex(self.address)
        return sock

    def unused(self) -> socket.socket:
        """Raises: OSError."""
        return socket.socket(self.family, socket.SOCK_STREAM)

    def accepted(self, stop: int) -> socket.socket | None:
        """Wait until it has accepted a connection; returns that. None if `stop` can be read, or it has ended."""
        probe: socket.socket | None = None
        while not select.select([stop, self.process], [], [], POLL_S)[0]:
            if probe is None:
                probe = self.connect(self.unused())
            if probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or not select.select([], [probe], [], 0)[1]:
                probe.close()
                probe = None
            elif accepted(self.address, probe.getsockname()):
                return probe
        if probe is not None:
            probe.close()
        return None

    def end(self) -> None:
        """Tell it to end, once."""
        if not self.ending:
            self.ending = True
            try:
                signal.pidfd_send_signal(self.process, signal.SIGTERM)
            except OSError:  # it has ended
                return


class Relay:
    """All connections that come in at the listening socket `public`. `drain_s` is None for a candidate."""

    def __init__(self, public: socket.socket, server: Server, *, drain_s: float | None) -> None:
        self.public = public
        self.server = server
        self.drain_s = drain_s or 0.0
        self.candidate = drain_s is None
        self.epoll = select.epoll()
        self.ends: dict[int, End] = {}
        self.accepting = False
        self.pausing = False
        self.leaving = 0.0  # since when
        self.heard = 0.0  # when the last piece came, while it leaves
        self.lingering: dict[End, float] = {}
        self.first: socket.socket | None = None  # a connection to the server that carries nothing yet
        self.spare: socket.socket | None = None  # for the next one

    def run(self, stop: int) -> None:
        """Carry connections until the descriptor `stop` can be read, and then to their ends."""
        public, ends, poll = self.public.fileno(), self.ends, self.epoll.poll
        if self.candidate:
            select.select([self.public.fileno(), stop, self.server.process], [], [])
        if (probe := self.server.accepted(stop)) is None:
            self.server.end()
            return
        if self.candidate:
            self.first = probe
        else:
            probe.close()
        for one in (stop, self.server.process):
            self.epoll.register(one, READ)
        self.accept(on=True)
        while ends or not self.leaving:
            for fd, events in poll(self.patience()):
                end = ends.get(fd)
                if end is not None:
                    self.serve(end, events)
                elif fd == public and self.accepting:
                    self.take_in()
                elif fd in (stop, self.server.process):
                    self.epoll.unregister(fd)
                    self.leave()
            if self.leaving:
                self.check_quiet()
            if self.lingering:
                self.hang_up()
            if self.pausing:
                self.pausing = False
                self.accept(on=not self.leaving)
        self.server.end()

    def patience(self) -> float:
        """How long nothing may happen, in seconds; for ever if nothing is due."""
        if self.leaving:
            return RECHECK_S
        return PAUSE_S if self.pausing else LINGER_S if self.lingering else -1

    def accept(self, *, on: bool) -> None:
        if on != self.accepting:
            self.accepting = on
            if on:
                self.epoll.register(self.public.fileno(), READ)
            else:
                self.epoll.unregister(self.public.fileno())

    def leave(self) -> None:
        if not self.leaving:
            self.leaving = self.heard = time.monotonic()
            self.accept(on=False)
            for one in (self.public, self.first, self.spare):
                if one is not None:
                    one.close()

    def check_quiet(self) -> None:
        """Tell the server to end when no visitor waits for an answer, or has just got a part of it."""
        now = time.monotonic()
        asked = any(end.visitor and end.last for end in self.ends.values())
        if (not asked and now - self.heard > QUIET_S) or now - self.leaving > self.drain_s or not self.ends:
            self.server.end()

    def take_in(self) -> None:
        for _ in range(BATCH):
            try:
                # First what it will need: a visitor that cannot be carried waits in the queue.
                self.spare = self.spare or self.server.unused()
                fd, _ = self.public._accept()  # type: ignore[attr-defined]
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    self.accept(on=False)
                    self.pausing = True
                return
            server, self.first = self.first, None
            if server is None:
                server, self.spare = self.server.connect(self.spare), None
            self.carry(socket.socket(fileno=fd), server)

    def carry(self, visitor: socket.socket, server: socket.socket) -> None:
        visitor.setblocking(False)
        one, other = End(visitor, visitor=True), End(server, visitor=False)
        one.other, other.other = other, one
        for end in (one, other):
            if end.sock.family != socket.AF_UNIX:
                end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.ends[end.fd] = end
            self.ask(end)

    def serve(self, end: End, events: int) -> None:
        """Something has happened at an end."""
        if events & WRITE:
            self.flush(end)
        if not end.open or not end.reading or not events & (READ | BROKEN):
            return
        other = end.other
        try:
            data = end.sock.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            self.drop(end)
            return
        if self.leaving:
            self.heard = time.monotonic()
        if not data:
            end.reading = False
            other.shut = True
            self.flush(other)
            return
        end.last, other.last = True, False
        if not other.held:
            try:
                sent = other.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.drop(end)
                return
            if sent == len(data):
                return
            data = data[sent:]
        other.held += data
        end.reading = len(other.held) < HELD_MOST
        self.ask(end)
        self.ask(other)

    def flush(self, end: End) -> None:
        """Send what is held for an end, and then that nothing more comes."""
        try:
            if end.held:
                end.held = end.held[end.sock.send(end.held) :]
            if end.shut and not end.held:
                end.sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self.drop(end)
            return
        other = end.other
        other.reading = not end.shut and len(end.held) < HELD_MOST
        if end.shut and not end.held:
            if other.shut and not other.held:
                self.drop(end)
                return
            if end.visitor:
                self.lingering[end] = time.monotonic() + LINGER_S
        self.ask(end)
        self.ask(other)

    def ask(self, end: End) -> None:
        """Ask the kernel for what is of use now. Asked for nothing, it would tell of a broken connection."""
        wanted = (READ if end.reading else 0) | (WRITE if end.held else 0)
        if wanted != end.asked:
            if not wanted:
                self.epoll.unregister(end.fd)
            elif not end.asked:
                self.epoll.register(end.fd, wanted)
            else:
                self.epoll.modify(end.fd, wanted)
            end.asked = wanted

    def hang_up(self) -> None:
        """Close connections whose server has ended them, and whose visitor says no more."""
        now = time.monotonic()
        for end, until in [*self.lingering.items()]:
            if not end.open:
                del self.lingering[end]
            elif now > until or self.leaving:
                self.drop(end)

    def drop(self, end: End) -> None:
        """Close both ends."""
        for one in (end, end.other):
            if one.open:
                one.open = False
                del self.ends[one.fd]
                self.lingering.pop(one, None)
                one.sock.close()


def accepted(server: tuple[str, int], by: tuple[str, int]) -> bool:
    """Whether the server at this address has accepted the connection from `by`: it has an inode only then."""
    try:
        return inode(server, by) != 0
    except OSError:  # a kernel, or a sandbox, that does not tell
        return listed(server[1], by[1])


def inode(local: tuple[str, int], remote: tuple[str, int]) -> int:
    """The inode of the one TCP socket between these two addresses, 0 if nobody has it (sock_diag(7)).

    The tables of all sockets have thousands of rows on a server with visitors. Reading them a hundred times a
    second takes a whole core, just while visitors need it. Raises: OSError.
    """
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    places = b"".join(socket.inet_pton(family, one[0]).ljust(16, b"\0") for one in (local, remote))
    ports = local[1].to_bytes(2, "big") + remote[1].to_bytes(2, "big")
    # inet_diag_req_v2: family, protocol, extensions, padding, states; ports, addresses, interface, "no cookie"
    asked = bytes((family, socket.IPPROTO_TCP, 0, 0)) + ALL + ports + places + bytes(4) + 2 * ALL
    head = (16 + len(asked)).to_bytes(4, sys.byteorder) + DIAGNOSE.to_bytes(2, sys.byteorder)
    asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
    try:
        asking.settimeout(1)
        asking.sendto(head + REQUEST.to_bytes(2, sys.byteorder) + bytes(8) + asked, (0, 0))
        answer = asking.recv(4096)
    finally:
        asking.close()
    # Where there is no connection, the kernel tells of the listening socket, which has no other end.
    if int.from_bytes(answer[4:6], sys.byteorder) != DIAGNOSE or answer[20:24] != ports:
        raise OSError(errno.ENOENT, "the kernel knows no such connection")
    return int.from_bytes(answer[84:88], sys.byteorder)  # inet_diag_msg: idiag_inode


def listed(port: int, by: int) -> bool:
    """As `accepted`, from proc_net_tcp. If the tables cannot be read, it is taken to have."""
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/self/net/{table}", encoding="ascii") as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            return True
        for row in rows:
            if row[1].endswith(f":{port:04X}") and row[2].endswith(f":{by:04X}"):
                return row[9] != "0"
    return False


def main() -> None:
    """Do what the arguments say."""
    options = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
    host, _, port = options["to"].rpartition(":")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    public = socket.socket(fileno=FIRST_FD)
    public.setblocking(False)
    stop, wake = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(wake, b"."))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    server = Server(host.strip("[]"), int(port), int(options["server"]))
    Relay(public, server, drain_s=float(options["drain"]) if "drain" in options else None).run(stop)


if __name__ == "__main__":
    main()
