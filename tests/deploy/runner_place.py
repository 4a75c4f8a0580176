"""An app under the real runner: real processes, a real listening socket, and what the runner says of itself."""

import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pusher.wire import split_command
from tests.runs import say_run

RUNNER = Path(__file__).parent.parent.parent / "agent/host/run/runner.py"
PYTHON = "/usr/bin/python3"
PATIENCE_S = 20.0
COUNTED = bool(os.environ.get("COVERAGE_RUN"))
INTERPRETER = (sys.executable, "-m", "coverage", "run", "--parallel-mode") if COUNTED else (PYTHON, "-I", "-S")
AS_SYSTEMD_DOES = 'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@" 3<&0 0</dev/null'

APP = """
import json, os, select, signal, socket, sys, time
from pathlib import Path

VERSION, WAY = {version!r}, {way!r}
FDS = sorted(map(int, os.listdir("/proc/self/fd")))[:-1]  # without that of the folder itself
listening = socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) if {port} else socket.socket(fileno=3)

def gate(name):
    while Path(name).exists():
        time.sleep(0.005)

def wait():
    if WAY == "select":
        select.select([listening], [], [])
    elif WAY == "poll":
        poll = select.poll()
        poll.register(listening, select.POLLIN)
        poll.poll()
    elif WAY == "epoll":
        poll = select.epoll()
        poll.register(listening, select.EPOLLIN)
        poll.poll()

def facts():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {{"version": VERSION, "pid": os.getpid(), "cwd": os.getcwd(), "env": dict(os.environ),
            "blocked": status["SigBlk"].strip(), "ignored": status["SigIgn"].strip(),
            "fds": FDS, "sid": os.getsid(0), "argv": sys.argv[1:], "visitor": visitor.getpeername()}}

{prelude}
listening.setblocking(WAY == "accept")
while True:
    wait()
    try:
        visitor, _ = listening.accept()
    except BlockingIOError:
        continue
    visitor.setblocking(True)
    visitor.recv(4096)
    visitor.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + json.dumps(facts()).encode())
    visitor.close()
"""


class RunnerPlace:
    """Releases of an app beneath `root`, and a listening socket for them."""

    def __init__(self, root: Path, *, venv: Path | None = None, unix: bool = False, port: bool = False) -> None:
        self.root = root
        self.log = root / "log"
        self.command = "python app.py"
        self.deadline_s = 15.0
        self.port = port
        self._venv = venv
        if unix:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.bind(str(root / "app.sock"))
            self.socket.listen(512)
        else:
            self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._numbers = 0
        self._visitors: list[socket.socket] = []

    def release(self, version: str, *, way: str = "accept", prelude: str = "", app: str = "") -> str:
        """A release, live from now on; `prelude` is run before it accepts."""
        self._numbers += 1
        folder = self.root / f"releases/2026112302{self._numbers:04}Z"
        folder.mkdir(parents=True)
        (folder / "REVISION").write_text(f"{version}\n")
        (folder / "app.py").write_text(
            app or APP.format(version=version, way=way, prelude=prelude, port=self.port)
        )
        if self._venv:
            (folder / "venv").symlink_to(self._venv)
        else:
            (folder / "venv/bin").mkdir(parents=True)
            (folder / "venv/bin/python").symlink_to(PYTHON)
        self.say_run(folder)
        self.go_live(folder.name)
        return folder.name

    def say_run(self, folder: Path) -> None:
        """Let a release be started by this place's command, within its deadline."""
        processes = {"worker": {"start": split_command(self.command)}}
        settings = {"health": {"deadline_s": self.deadline_s}, "listen_via": "port" if self.port else "socket"}
        say_run(folder, self.command, processes=processes, **settings)

    def go_live(self, name: str) -> None:
        (self.root / "current.new").symlink_to(f"releases/{name}")
        (self.root / "current.new").rename(self.root / "current")

    @contextmanager
    def running(
        self,
        *command: str,
        drain: float = 5,
        deadline: float = 15,
        overlap: bool = True,
        runner: Path = RUNNER,
    ) -> Iterator["Running"]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.command, self.deadline_s = shlex.join(command) or self.command, deadline
        for folder in (self.root / "releases").iterdir():
            self.say_run(folder)
        options = (
            f"--path={self.root}",
            f"--drain={drain}",
            f"--overlap={'yes' if overlap else 'no'}",
            f"--report={theirs.fileno()}",
        )
        log = self.log.open("ab")
        process = subprocess.Popen(
            ("/bin/sh", "-c", AS_SYSTEMD_DOES, "sh", *INTERPRETER, str(runner), *options),
            stdin=self.socket,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            env={"PATH": os.environ["PATH"], "SECRET": "kept", "NOTIFY_SOCKET": "@nobody"},
        )
        theirs.close()
        log.close()
        running = Running(self, process, ours)
        try:
            running.hear("READY=1")
            yield running
        finally:
            if process.poll() is None:
                process.terminate()
            running.clear_away()
            ours.close()
            print(self.log.read_text())

    def ask(self) -> Any:
        """What the app answers on a fresh connection."""
        with socket.socket(self.socket.family) as visitor:
            visitor.settimeout(PATIENCE_S)
            visitor.connect(self.socket.getsockname())
            visitor.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            answer = b""
            while chunk := visitor.recv(65536):
                answer += chunk
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    def knock(self) -> None:
        """Connect, and say nothing; the connection stays open."""
        visitor = socket.socket(self.socket.family)
        visitor.connect(self.socket.getsockname())
        self._visitors.append(visitor)

    def close(self) -> None:
        for one in (*self._visitors, self.socket):
            one.close()


class Running:
    """A started runner."""

    def __init__(self, place: RunnerPlace, process: subprocess.Popen[bytes], reports: socket.socket) -> None:
        self.place = place
        self.process = process
        self.pid = process.pid
        self.heard: list[str] = []
        self._reports = reports
        self._asking: list[subprocess.Popen[bytes]] = []

    def hear(self, words: str) -> str:
        """The next thing it says that has these words in it."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if select.select([self._reports], [], [], 0.1)[0]:
                self.heard.append(self._reports.recv(65536).decode())
                if words in self.heard[-1]:
                    return self.heard[-1]
            elif self.process.poll() is not None:
                break
        raise AssertionError(f"{words!r} not in {self.heard}; {self.place.log.read_text()}")

    def live(self) -> tuple[str, int]:
        """Release and process that serve, by what it said last."""
        found = re.search(r"(\w+) serves as process (\d+) \(since [\d.]+ s after boot\)$", self.heard[-1])
        assert found
        return found[1], int(found[2])

    def ask_to_reload(self) -> subprocess.Popen[bytes]:
        """The command that is the unit's ExecReload=."""
        self._asking.append(subprocess.Popen((PYTHON, "-I", "-S", str(RUNNER), f"--reload={self.pid}")))
        return self._asking[-1]

    def reload(self) -> int:
        """Its exit code."""
        return self.ask_to_reload().wait(PATIENCE_S)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def clear_away(self) -> None:
        """End what is still there of it, and of those that ask it."""
        for process in (self.process, *self._asking):
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait(self) -> int:
        """As `subprocess` says: negative for a signal."""
        return self.process.wait(PATIENCE_S)


def until(true: Callable[[], object], *, seconds: float = PATIENCE_S) -> None:
    """Wait for something that only other processes decide."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.005)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
