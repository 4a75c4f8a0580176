"""Runs one app: the parent of its processes, and the keeper of its listening socket.

It is executed as a file (`python3 -I -S runner.py ...`), imports only the standard library, and knows nothing of
releases but the link `current`. It promises:

- It starts the release that `current` points at. On SIGHUP it starts the one that `current` points at by then, on
  the same socket, and ends the predecessor only when the successor accepts connections, with as many processes.
  Nobody waits for either.
- A successor that ends while it starts changes nothing: the predecessor goes on, and the reload has failed.
- A server that takes no socket gets a port of its own on loopback for each start (PORT, `$PORT`). A relay carries
  connections there (relay.py), one for each start, so that both can overlap all the same.
- Nothing outlives it. When the app ends by itself, the runner ends the same way: same exit code, or same signal.
- Only the runner can say what it says (STATUS=, sd_notify(3)): the app cannot enter it, or notify in its name.

    runner.py --path=DIR --drain=S --overlap=yes|no [--report=FD]
    runner.py --path=DIR --drain=S --process=NAME [--report=FD]
    runner.py --become=RELEASE --process=NAME       no parent: become this process of the release in that folder
    runner.py --become=RELEASE --process=service --loopback=HOST|no     the same for a candidate (see `try_out`)
    runner.py --reload=PID      ask the runner PID for a reload; exit code 0 when it is done, 1 if it failed

How a release is started, it says itself (`.pusher/start`, agent/core/run.py); the program is found in its
`venv/bin`. The socket comes in as sd_listen_fds(3) says. A process with a name does not serve, it runs, and never
beside its predecessor. `--report` names an open socket that gets what sd_notify(3) would send.
"""

from __future__ import annotations

import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    import signal
    import socket
    from collections.abc import Generator, Iterator
else:  # the same without enum, selectors and collections, which would take more than a megabyte
    import _signal as signal
    import _socket as socket

FIRST_FD = 3  # SD_LISTEN_FDS_START
RELOAD = signal.SIGRTMIN
"""As SIGHUP, with an answer: DONE or FAILED goes to the process that sent it. Real-time signals queue up, so two
processes may ask at once, and both get an answer (signal(7))."""
DONE, FAILED = signal.SIGUSR1, signal.SIGUSR2
STOPS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
UNUSED = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGALRM, signal.SIGTTIN, signal.SIGTTOU}
"""Meant for the app (`systemctl kill` sends to all processes of a unit). They must not end the runner."""
SIGNALS = {signal.SIGCHLD, signal.SIGHUP, RELOAD, *STOPS, *UNUSED}

POLL_S = 0.01  # only while a reload is under way
SHORT_POLL_S = 0.002  # when a release was told to end: most let go of the socket at once
LINGER_S = 0.2
REST_S = 2.0  # at least so long its other processes may take when one accepts
CONNECTIONS_S, SELDOM = 0.25, 20  # the kernel's table of connections may be long: 1/20 of a core for it at most
QUIET_S = 0.5
NO_FOLDER, NO_PROGRAM, NO_SOCKET = 200, 203, 78  # systemd.exec(5): EXIT_CHDIR, EXIT_EXEC; sysexits(3): EX_CONFIG
NO_PROCESS = 199
"""After this, the unit of a process does not start again. No program ends with it by itself: 64 to 78 are those of
sysexits(3), which a worker may end with, and from 200 on they are systemd's."""
SERVICE = b"service"  # the process that serves, among those of a release
PORT = b"$PORT"  # what stands for the port in a word of a command
LOOPBACK = "127.0.0.1"
GRACE_S = 1.0
"""How long a server may take to end when its relay has told it to, after the drain. What was killed may take
as long: it can hang in the kernel."""
PORTS = 100  # so few are too few to choose from

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36  # prctl(2)

CALLS = {  # the system calls in which a process waits for connections, by machine and number
    "x86_64": {43: "accept", 288: "accept", 7: "poll", 271: "poll", 23: "select", 270: "select"},
    "aarch64": {202: "accept", 242: "accept", 73: "poll", 72: "select"},
}


class Start:
    """How a process is started. `deadline_s` is how long it may take to accept connections.

    `port` is where it listens, 0 if it is handed the socket.
    """

    def __init__(self, folder: str, argv: list[bytes], environment: dict[str, str], deadline_s: float) -> None:
        self.folder = folder
        self.argv = argv
        self.environment = environment
        self.deadline_s = deadline_s
        self.port = 0

    def listen_at(self, port: int) -> None:
        """Let it listen at a port on loopback, instead of accepting from a socket."""
        self.port = port
        self.argv = [word.replace(PORT, str(port).encode()) for word in self.argv]
        kept = {name: value for name, value in self.environment.items() if not name.startswith("LISTEN_")}
        self.environment = {**kept, "PORT": str(port)}


class Release:
    """A started release: its main process, which leads a session of its own."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.started = time.monotonic()
        self.ticks = start_ticks(pid)
        self.kill_at = 0.0
        self.status: int | None = None  # as waitpid(2) gives it; None: it runs
        self.relay: Release | None = None  # what carries connections to it
        self.server: Release | None = None  # of a relay

    @property
    def door(self) -> Release:
        """What accepts from the listening socket: itself, or its relay."""
        return self.relay or self

    def end(self, patience_s: float) -> None:
        """TERM now, KILL after `patience_s` seconds. A relay is told first, and passes it on in time."""
        if self.status is None and not self.kill_at:
            relayed = self.relay is not None and self.relay.status is None
            self.kill_at = time.monotonic() + patience_s + (GRACE_S if relayed else 0)
            self.door.kill_at = self.kill_at
            os.kill(self.door.pid if relayed else self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """KILL it and its process group. The group may be there when the main process is gone."""
        self.kill_at = float("inf")
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except OSError:
            if self.status is None:  # it has not made its session yet
                os.kill(self.pid, signal.SIGKILL)


class Runner:
    """One app. `run` returns when it has ended, with the status that the runner must end with."""

    def __init__(self, options: dict[str, str]) -> None:
        self.path = options["path"]
        self.drain_s = float(options["drain"])
        self.serves = "process" not in options
        self.process = os.fsencode(options.get("process", "")) or SERVICE
        self.overlap = self.serves and options["overlap"] == "yes"
        self.report = open_report(options.get("report", ""))
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self.libc = c_library()
        self.pid = os.getpid()
        if self.serves:
            self.socket = Listening(socket.socket(fileno=FIRST_FD))
        self.releases: dict[int, Release] = {}
        self.orphans = False  # whether a release may have left any
        self.news = ""
        self.live: Release
        self.broken = False  # whether the relay of the live release has ended by itself
        self.reloading: Generator[float | None, None, bool] | None = None
        self.pause: float | None = None  # until the reload wants to look again
        self.asked: list[int] = []  # the processes that want a reload which has not begun; 0 is a plain SIGHUP
        self.waiting: list[int] = []  # those that wait for the one under way

    def run(self) -> int:
        self.libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what loses its parent in the app is ours to end
        self.libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # the app has our user, and must not speak through us
        self.live = self.launch(self.resolve())
        self.notify("READY=1")
        self.give_memory_back()
        stopping = False
        while True:
            received = self.next_signal()
            self.reap()
            if received and received.si_signo in STOPS and not stopping:
                stopping = True
                self.stop()
            elif received and received.si_signo in (RELOAD, signal.SIGHUP) and not stopping:
                self.asked.append(received.si_pid if received.si_signo == RELOAD else 0)
            for release in self.releases.values():
                if release.kill_at <= time.monotonic() and release.kill_at:
                    if not release.server:
                        say(f"{release.name} has not ended within {self.drain_s:g} s and is killed")
                    release.kill()
            if not stopping:
                self.go_on()
                self.end_orphans()
            ended = self.live.status
            if ended is not None and not (self.releases if stopping else self.reloading):
                self.end_all()
                return NO_SOCKET << 8 if self.broken else ended

    def next_signal(self) -> signal.struct_siginfo | None:
        """The next signal, or None when it is time for something else. At rest, nothing but a signal wakes it."""
        now = time.monotonic()
        due = [release.kill_at - now for release in self.releases.values() if release.kill_at]
        due = [seconds for seconds in due if seconds != float("inf")]
        if self.reloading and self.pause is not None:
            due.append(self.pause)
        if self.asked and not self.reloading:
            due.append(0)  # the next one, asked for while the last one was under way
        return signal.sigtimedwait(SIGNALS, max(0, min(due))) if due else signal.sigwaitinfo(SIGNALS)

    def go_on(self) -> None:
        """Take the reload a step further, or begin the next one."""
        if not self.reloading and self.asked and self.live.status is None:
            self.waiting, self.asked = self.asked, []
            self.reloading = self.reload()
            self.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        if self.reloading:
            try:
                self.pause = next(self.reloading)
            except StopIteration as done:
                self.reloading = None
                self.notify("READY=1")
                self.answer(DONE if done.value else FAILED)
                self.give_memory_back()

    def reload(self) -> Generator[float | None, None, bool]:
        """Change over to what `current` points at. Yields how long to wait; returns whether it has worked."""
        before, self.news = self.live, ""
        try:
            start = self.resolve()
            successor = self.launch(start) if self.overlap else None
        except OSError as error:
            self.give_up("current", str(error))
            return False
        if successor is None:
            before.end(self.drain_s)
            while before.status is None:
                yield None
            self.live = self.launch(start)
            return True
        self.news = f"{successor.name} starts as process {successor.pid}; "
        self.notify()
        if not (yield from self.until_it_accepts(successor, start.deadline_s)):
            self.give_up(successor.name, how_it_ended(successor.status or 0))
            return False
        self.live, self.news = successor, ""
        before.end(self.drain_s)
        since = time.monotonic()
        while before.status is None and successor.status is None and not self.socket.left_by(before.door.pid):
            yield min(POLL_S, max(SHORT_POLL_S, (time.monotonic() - since) / 5))
        if before.status is None:
            self.news = f"{before.name} finishes its requests as process {before.pid}; "
        return successor.status is None

    def until_it_accepts(self, successor: Release, deadline_s: float) -> Generator[float, None, bool]:
        """Wait until a successor accepts, with as many processes as its predecessor. False: it has ended instead.

        With the first of its workers alone, all visitors would wait behind each other, while the machine is busy
        starting the rest. But it may have fewer of them, so they get as long again as the first, and no longer.
        """
        began = time.monotonic()
        until = began + deadline_s
        theirs: set[int] = set()  # what was seen to wait for connections: a process that is busy does not
        ours: set[int] = set()
        while successor.status is None:
            theirs |= self.socket.waiting(self.live.door.pid)
            found, now = self.socket.accepting(successor.door.pid), time.monotonic()
            if found and not ours:
                until = min(until, now + max(REST_S, now - began))
            ours |= found
            if now > until and not ours:
                # It runs. Whether it accepts cannot be seen, or it waits for its predecessor to be gone.
                say(f"{successor.name} was not seen to accept in {deadline_s:g} s: {self.live.name} ends first")
            if now > until or len(ours) >= max(1, len(theirs)):
                return True
            yield POLL_S
        return False

    def give_up(self, name: str, why: str) -> None:
        say(f"{name} was not started: {why}; {self.live.name} goes on")
        self.news = f"{name} was not started: {why}; "

    def resolve(self) -> Start:
        """How the live release is started. Raises: OSError."""
        return resolve(os.path.join(self.path, "current"), self.process)

    def launch(self, start: Start) -> Release:
        release = self.spawn(os.path.basename(start.folder), start, socket=self.serves and not start.port)
        if start.port:
            relay = relay_to(LOOPBACK, start.port, server=release.pid, drain_s=self.drain_s)
            try:
                release.relay = self.spawn(release.name, relay, socket=True)
            except OSError:  # nobody else would end it
                release.kill()
                raise
            release.relay.server = release
        return release

    def spawn(self, name: str, start: Start, *, socket: bool) -> Release:
        pid = os.fork()
        if pid == 0:
            try:
                self.become(start, socket=socket)
            finally:
                os._exit(NO_PROGRAM)
        release = Release(name, pid)
        self.releases[pid] = release
        return release

    def become(self, start: Start, *, socket: bool) -> None:
        """The child's way to the app's program. Anything it says goes where the app's output goes."""
        os.setsid()
        self.libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != self.pid:  # it died before the line above
            os._exit(1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and exec would pass that on
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        if self.serves:
            os.set_inheritable(FIRST_FD, socket)
        if socket:
            # LISTEN_PID must be this very process. Otherwise gunicorn silently binds an address of its own.
            start.environment["LISTEN_PID"] = str(os.getpid())
        become(start)

    def reap(self) -> None:
        """Take leave of every process that has ended, and of its process group."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            release = self.releases.pop(pid, None)
            if release:
                release.status, ending = status, bool(release.kill_at)
                release.kill()
                self.orphans = True
                if release.server and not (ending and status == 0):
                    self.lost(release, release.server, ending=ending)
                elif self.news.startswith(f"{release.name} finishes"):
                    self.news = ""
                    self.notify()
                if release.relay and release.relay.status is None:
                    release.relay.end(self.drain_s)

    def lost(self, relay: Release, server: Release, *, ending: bool) -> None:
        """A relay has ended before it could tell its server to end."""
        if server.status is None:
            say(f"the relay of {server.name} has ended: {how_it_ended(relay.status or 0)}")
            self.broken = self.broken or (server is self.live and not ending)
            server.kill_at = server.kill_at or time.monotonic() + self.drain_s
            os.kill(server.pid, signal.SIGTERM)

    def end_orphans(self) -> None:
        """When only the live release is left: what is ours now, and older than that, belonged to another one."""
        if self.orphans and not self.reloading and set(self.releases) == {self.live.pid, self.live.door.pid}:
            self.orphans = False
            for pid in children(self.pid):
                if pid not in self.releases and start_ticks(pid) < self.live.ticks:
                    os.kill(pid, signal.SIGKILL)
                    self.orphans = True  # its own children come to us now

    def end_all(self) -> None:
        """Kill what is left of the app, also what has left its session: all that loses its parent comes to us."""
        for release in self.releases.values():
            release.kill()
        until = time.monotonic() + GRACE_S  # no longer: the app must start anew
        try:
            while time.monotonic() < until:
                for pid in children(self.pid):
                    os.kill(pid, signal.SIGKILL)
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(SHORT_POLL_S)
        except OSError:  # there is none any more, or it is not ours to kill
            return

    def stop(self) -> None:
        self.notify("STOPPING=1")
        self.reloading = None
        self.waiting += self.asked
        self.asked = []
        self.answer(FAILED)
        for release in self.releases.values():
            release.end(self.drain_s)

    def give_memory_back(self) -> None:
        """A megabyte that compiling this file took, and what a reload did (malloc_trim(3), glibc only)."""
        if hasattr(self.libc, "malloc_trim"):
            self.libc.malloc_trim(0)

    def answer(self, number: int) -> None:
        for pid in self.waiting:
            try:
                if pid:
                    os.kill(pid, number)
            except OSError:  # it has not waited
                continue
        self.waiting = []

    def notify(self, message: str = "") -> None:
        """Say how things are, to systemd or to the agent, which reads this wording (runner_status.py)."""
        live = self.live
        verb = "serves" if self.serves else "runs"
        status = (
            f"STATUS={self.news}{live.name} {verb} as process {live.pid} (since {live.started:.6f} s after boot)"
        )
        if self.report:
            try:
                self.report.send(f"{message}\n{status}".strip().encode())
            except OSError as error:
                say(f"no status can be given: {error.strerror}")


class Listening:
    """The listening socket, and who is at it. Nothing is accepted from it, and no connection to it is made.

    A process waits for connections if the socket is in one of its epoll sets (/proc/PID/fdinfo), or one of its
    threads sleeps in accept, poll or select with it (/proc/PID/task/TID/syscall; sets are read from its memory).
    A process that is too busy to wait has accepted a connection, which is among its descriptors. The same user may
    see all that. If kernel.yama.ptrace_scope is 2 or more, system calls are hidden, and the other two must do.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.inode = os.fstat(sock.fileno()).st_ino
        self.name = f"socket:[{self.inode}]"
        self.address = sock.getsockname()
        self.calls = CALLS.get(os.uname().machine, {})
        self.next_table = 0.0
        self.quiet_since = 0.0
        sock.detach()

    def accepting(self, pid: int) -> set[int]:
        """The processes of this family that accept connections, beyond doubt."""
        self.quiet_since = 0.0
        connections: dict[str, int] = {}
        found = self.waiting(pid, connections)
        if found or not connections or time.monotonic() < self.next_table:
            return found
        began = time.monotonic()
        found = {connections[inode] for inode in self.connections() if inode in connections}
        now = time.monotonic()
        self.next_table = now + max(CONNECTIONS_S, SELDOM * (now - began))
        return found

    def waiting(self, pid: int, connections: dict[str, int] | None = None) -> set[int]:
        """The processes of this family that wait for connections now. `connections` gets their other sockets."""
        found = set()
        for one in family(pid):
            try:
                ours, polls, others = self.descriptors(one)
                if connections is not None:
                    connections |= dict.fromkeys(others, one)
                if self.waits(one, ours, polls):
                    found.add(one)
            except OSError:  # it has ended, or is not ours to see
                continue
        return found

    def left_by(self, pid: int) -> bool:
        """Whether no connection can reach this family any more. True only on the second look.

        None of its processes waits for connections, and its main process, which could start others that do, has
        closed the socket. If the main process keeps it open until its end, all must be quiet for longer.
        """
        now = time.monotonic()
        try:
            holds = bool(self.descriptors(pid)[0])
            busy = any(self.waits(one, *self.descriptors(one)[:2]) for one in family(pid))
        except (FileNotFoundError, ProcessLookupError):
            return False  # look again: its end, or that of a worker, is near
        except OSError:
            busy = True
        if busy:
            self.quiet_since = 0.0
            return False
        self.quiet_since = self.quiet_since or now
        return now - self.quiet_since >= (QUIET_S if holds else POLL_S / 2)

    def descriptors(self, pid: int) -> tuple[set[int], list[int], set[str]]:
        """Its descriptors of our socket, those of epoll sets, and the inodes of other sockets. Raises: OSError."""
        ours, polls, others = set(), [], set()
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except FileNotFoundError:  # closed meanwhile
                continue
            if target == self.name:
                ours.add(int(name))
            elif target == "anon_inode:[eventpoll]":
                polls.append(int(name))
            elif target.startswith("socket:["):
                others.add(target[8:-1])
        return ours, polls, others

    def waits(self, pid: int, ours: set[int], polls: list[int]) -> bool:
        """Raises: OSError."""
        if any(self.inode in epoll_inodes(pid, fd) for fd in polls):
            return True
        return bool(ours) and any(self.sleeps(pid, task, ours) for task in os.listdir(f"/proc/{pid}/task"))

    def sleeps(self, pid: int, task: str, ours: set[int]) -> bool:
        """Whether a thread sleeps in a system call that a connection will end. Raises: OSError."""
        with open(f"/proc/{pid}/task/{task}/syscall", encoding="utf-8", errors="replace") as file:
            words = file.read().split()  # proc(5): number, arguments; or "running"
        call = self.calls.get(int(words[0])) if words and words[0].isdecimal() else None
        if call is None:
            return False
        first, second = int(words[1], 16), int(words[2], 16)
        if call == "accept":
            return first in ours
        if call == "poll":  # struct pollfd: int fd, short events, short revents
            sets = memory(pid, first, 8 * min(second, 4096))
            order = sys.byteorder
            entries = ((sets[at : at + 4], sets[at + 4]) for at in range(0, len(sets), 8))
            return any(events & 1 and int.from_bytes(fd, order, signed=True) in ours for fd, events in entries)
        bits = memory(pid, second, (first + 7) // 8) if second else b""
        return any(fd < first and bits[fd // 8] >> fd % 8 & 1 for fd in ours)

    def connections(self) -> Iterator[str]:
        """The inodes of all connections to this address that were accepted (proc_net_tcp, unix(7))."""
        unix = not isinstance(self.address, tuple)
        for table in ("unix",) if unix else ("tcp", "tcp6"):
            try:
                with open(f"/proc/self/net/{table}", encoding="utf-8", errors="replace") as file:
                    rows = [line.split() for line in file][1:]
            except OSError:
                continue
            for row in rows:
                if unix and row[7:8] == [self.address]:
                    yield row[6]
                elif not unix and int(row[1].rpartition(":")[2], 16) == self.address[1]:
                    yield row[9]


class NoProcess(OSError):
    """The release has no process of this name."""


def resolve(link: str, process: bytes) -> Start:
    """How a process of the release at `link` is started: this alone decides it. Raises: OSError, NoProcess."""
    folder = os.path.realpath(link, strict=True)
    with open(f"{folder}/REVISION", "rb") as file:
        version = os.fsdecode(file.readline().strip())
    deadline_s, via, argv = read_start(folder, process)
    inherited = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET",)}
    path = f"{folder}/venv/bin:{inherited.get('PATH', os.defpath)}"
    own = {"PUSHER_RELEASE": os.path.basename(folder), "PUSHER_VERSION": version}
    environment = {**inherited, **own, "VIRTUAL_ENV": f"{folder}/venv", "PATH": path}
    start = Start(folder, [os.fsencode(f"{folder}/venv/bin/") + argv[0], *argv[1:]], environment, deadline_s)
    if via == b"port":
        start.listen_at(free_port())
    return start


def read_start(folder: str, process: bytes) -> tuple[float, bytes, list[bytes]]:
    """Of a process, as the release says: its deadline in seconds, how it gets connections, and its command.

    Raises: OSError, NoProcess.
    """
    with open(f"{folder}/.pusher/start", "rb") as file:
        for line in file:
            name, *words = line.rstrip(b"\n").split(b"\t")
            if name == process:
                try:
                    deadline_s, via, program, *arguments = words
                    return float(deadline_s), via, [program, *arguments]
                except ValueError:
                    # Not an error of another kind: in a reload, the runner would end with it, and the app as well.
                    raise OSError(f"{file.name} is damaged: {line[:200]!r}") from None
    raise NoProcess(f"{os.path.basename(folder)} has no process {os.fsdecode(process)}")


def become(start: Start) -> None:
    """Become the program of a process. Returns only if that cannot be."""
    try:
        os.chdir(start.folder)
        os.execve(start.argv[0], start.argv, start.environment)  # noqa: S606
    except OSError as error:
        say(f"{os.fsdecode(start.argv[0])} cannot be run: {error.strerror}")


def relay_to(host: str, port: int, *, server: int, drain_s: float | None = None) -> Start:
    """How the relay to the process `server` is started: its program lies beside this one."""
    here, ending = os.path.split(os.path.abspath(sys.argv[0]))
    program = os.path.join(here, f"relay{os.path.splitext(ending)[1]}")
    drain = [] if drain_s is None else [f"--drain={drain_s}"]
    words = [sys.executable, "-I", "-S", program, f"--to={host}:{port}", f"--server={server}", *drain]
    return Start("/", [os.fsencode(word) for word in words], {}, 0)


def free_port() -> int:
    """A port on loopback where nobody listens. Not one that the kernel gives to connections: it might, until the
    server listens there."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        low, high = map(int, file.read().split())
    above, below = range(high + 1, 65536), range(10_000, low)
    ports = above if len(above) >= PORTS else below
    first = int.from_bytes(os.urandom(4), "big")
    for number in range(len(ports)):
        port = ports[(first + number) % len(ports)]
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.bind(("", port))
        except OSError:
            continue
        finally:
            sock.close()
        return port
    raise OSError("no port is free")


def try_out(start: Start, host: str) -> None:
    """Become a candidate, which is asked at the private socket that was handed over.

    Its server gets what it will get when it is live: a port, or a TCP socket at the loopback address `host`. A
    relay carries the questions there. With "no", it gets the private socket itself. Returns only if it cannot be.
    """
    listening: socket.socket | None = None
    if start.port:
        host, port = LOOPBACK, start.port
    elif host != "no":
        listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, 0))
        listening.listen(socket.SOMAXCONN)
        port = listening.getsockname()[1]
    if start.port or listening:
        relay = relay_to(host, port, server=os.getpid())
        os.set_inheritable(FIRST_FD, True)
        between = os.fork()  # so that the relay is no child of the app, which may wait for all of its own
        if between == 0:
            if os.fork() == 0:
                become(relay)
            os._exit(0)
        os.waitpid(between, 0)
        os.set_inheritable(FIRST_FD, False)
    if listening:
        os.dup2(listening.fileno(), FIRST_FD)
        listening.close()
    become(start)


def epoll_inodes(pid: int, fd: int) -> Iterator[int]:
    """The inodes of what an epoll set waits to read from (proc_pid_fdinfo(5)). Raises: OSError."""
    with open(f"/proc/{pid}/fdinfo/{fd}", encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.replace(":", ": ").split()  # "tfd: 5 events: 19 data: 5 pos: 0 ino: 2c1 sdev: 8"
            if words[:1] == ["tfd:"] and int(words[3], 16) & 1 and "ino:" in words:
                yield int(words[words.index("ino:") + 1], 16)


def memory(pid: int, address: int, size: int) -> bytes:
    """Raises: OSError."""
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        return os.pread(fd, size, address).ljust(size, b"\0")
    finally:
        os.close(fd)


def family(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    for child in children(pid):
        yield from family(child)


def children(pid: int) -> Iterator[int]:
    """The children of a process (proc_pid_task(5)); none if it has ended."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for task in tasks:
        try:
            with open(f"/proc/{pid}/task/{task}/children", encoding="utf-8", errors="replace") as file:
                words = file.read().split()
        except OSError:
            continue
        yield from map(int, words)


def start_ticks(pid: int) -> int:
    """When a process was started, in ticks since boot (proc_pid_stat(5)); never, if it is not there."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except OSError:
        return sys.maxsize


def how_it_ended(status: int) -> str:
    """A status of waitpid(2) in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def c_library() -> ctypes.CDLL:
    """Imported here: it takes longer than the rest, and what a deployment waits for twice (the way to a candidate,
    and the command of a reload) needs none of it."""
    import ctypes

    return ctypes.CDLL(None)


def open_report(descriptor: str) -> socket.socket | None:
    """Where status goes to: an open socket, or systemd's (sd_notify(3))."""
    if descriptor:
        sock = socket.socket(fileno=int(descriptor))
        os.set_inheritable(sock.fileno(), False)
        return sock
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
    return sock


def say(text: str) -> None:
    """A line to the app's log."""
    try:
        os.write(2, f"runner: {text}\n".encode())
    except OSError:  # nobody reads it any more
        return


def end_as(status: int) -> None:
    """End this process as another one ended; without a second core dump."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        sys.exit(code)
    number = -code
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    sys.exit(128 + number)


def ask(pid: int) -> bool:
    """Have the runner `pid` reload; returns when it has, whether it worked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {DONE, FAILED})
    try:
        runner = os.pidfd_open(pid)
        signal.pidfd_send_signal(runner, RELOAD)
    except ProcessLookupError:
        say("nothing is reloaded: the runner has ended")
        return False
    while True:
        gone = select.select([runner], [], [], 0)[0]
        received = signal.sigtimedwait({DONE, FAILED}, 0.5)
        if received and received.si_pid == pid:
            return received.si_signo == DONE
        if gone:
            return False


def linger(code: int) -> None:
    """Exit with this code. Nobody waits until the process's own view of the file system is gone, which takes 20 ms
    under the hardening of a unit: the last process that has it bears that, and it is another one."""
    try:
        if os.fork() == 0:
            time.sleep(LINGER_S)
    except OSError:  # the app has as many processes as it may: the reload is no failure for that
        pass
    os._exit(code)


def main() -> None:
    """Do what the arguments say."""
    options = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
    if "reload" in options:
        linger(0 if ask(int(options["reload"])) else 1)
    if "become" in options:
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        try:
            start = resolve(options["become"], os.fsencode(options["process"]))
            try_out(start, options["loopback"]) if "loopback" in options else become(start)
        except OSError as error:
            say(f"the release cannot be started: {error}")
            sys.exit(NO_PROCESS if isinstance(error, NoProcess) else NO_FOLDER)
        sys.exit(NO_PROGRAM)
    if "process" not in options and os.environ.get("LISTEN_PID") != str(os.getpid()):
        say("no listening socket was handed over (LISTEN_PID)")
        sys.exit(NO_SOCKET)
    try:
        status = Runner(options).run()
    except NoProcess as error:
        say(str(error))
        sys.exit(NO_PROCESS)
    except OSError as error:
        say(f"the live release cannot be started: {error}")
        sys.exit(NO_FOLDER)
    end_as(status)


if __name__ == "__main__":
    main()
