"""A root with one app and its embedded service, for tests with real processes."""

import asyncio
import json
import os
import pwd
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.core.config.app import AppConfig, Health
from agent.core.layout import HostLayout
from agent.host.clock import SystemClock
from agent.host.embedded.process import Main
from agent.host.embedded.service import Delays, Embedded, StartProcess
from agent.host.ports import Placed, Running
from agent.host.run import health, process
from pusher.wire import Problem
from tests.ports import free_port
from tests.runs import say_run

ME = pwd.getpwuid(os.geteuid()).pw_name
REPOSITORY = Path(__file__).parent.parent.parent
CLOCK = SystemClock()

SMALL = """
import json, os, signal, socket, sys, time
VERSION = {version!r}
if "--deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("started", VERSION, flush=True)
if "--die" in sys.argv:
    sys.exit(3)
if "--ignore" in sys.argv:
    time.sleep(60)
assert os.environ["LISTEN_FDS"] == "1" and os.environ["LISTEN_PID"] == str(os.getpid())
server = socket.socket(fileno=3)
while True:
    visitor, _ = server.accept()
    path = visitor.recv(10000).split()[1].decode()
    if path == "/exit":
        os._exit(4)
    body = json.dumps({{"version": VERSION, "pid": os.getpid(), "uid": os.getuid(), "cwd": os.getcwd(),
        "env": dict(os.environ), "stdin": os.readlink("/proc/self/fd/0"), "fds": os.listdir("/proc/self/fd"),
        "group": os.getpgid(0)}}).encode()
    visitor.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + body)
    visitor.close()
"""
"""An app of one process that takes its socket; a real one's start takes four times as long."""

FLASK = """
import time
from flask import Flask
app = Flask(__name__)

@app.get("/version")
def version():
    return {{"version": {version!r}}}

@app.get("/slow/<float:seconds>")
def slow(seconds):
    time.sleep(seconds)
    return {{"version": {version!r}}}
"""


class Impatient(SystemClock):
    """A clock that records its pauses, and makes them short."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0.001)


class Switched(Embedded):
    """Its restarts are what a deployment does: the link `current` first, and back if that fails."""

    link: Path

    async def restart(self, placed: Placed) -> Main:
        before = self.link.readlink() if self.link.is_symlink() else None
        point(self.link, placed.path)
        try:
            return await super().restart(placed)
        except Problem:
            if before:
                point(self.link, before)
            raise


def point(link: Path, target: Path) -> None:
    link.with_name("current.new").symlink_to(target)
    link.with_name("current.new").rename(link)


class Place:
    """A root with an app in it."""

    def __init__(self, root: Path, *, venv: Path | None = None) -> None:
        self.host = HostLayout(root)
        self.root = root
        self.port = free_port()
        self.lines: list[str] = []
        self._venv = venv
        self.clock: SystemClock = CLOCK
        self.delays = Delays()
        self.start: StartProcess = process.start
        self.command = "gunicorn -w 2 app:app" if venv else "python app.py"

    def release(self, version: str) -> Placed:
        folder = self.root / f"opt/demo/releases/2026112302005{version[1:]}Z"
        folder.mkdir(parents=True)
        (folder / "REVISION").write_text(f"{version}\n")
        (folder / "app.py").write_text((FLASK if self._venv else SMALL).format(version=version))
        if self._venv:
            (folder / "venv").symlink_to(self._venv)
        else:
            (folder / "venv/bin").mkdir(parents=True)
            (folder / "venv/bin/python").symlink_to("/usr/bin/python3")
        return Placed(folder.name, version, folder, say_run(folder, self.command))

    def service(self, *, start: str = "", **settings: object) -> Embedded:
        """The service. Releases that are made from now on are started by `start`."""
        self.command = start or self.command
        config = {"path": "/opt/demo", "user": ME, "listen": f"127.0.0.1:{self.port}", **settings}
        service = Switched(
            "demo",
            AppConfig.model_validate(config),
            host=self.host,
            clock=self.clock,
            line=self.lines.append,
            start=self.start,
            delays=self.delays,
        )
        service.link = self.current
        return service

    @property
    def current(self) -> Path:
        return self.root / "opt/demo/current"

    @asynccontextmanager
    async def running(self, **settings: Any) -> AsyncIterator[Embedded]:
        service = self.service(**settings)
        try:
            yield service
        finally:
            await service.stop()

    async def ask(self, path: str = "/version") -> Any:
        """What the public address answers on a fresh connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 200 " in head, answer
        return json.loads(body)

    def recorded(self) -> list[str]:
        return sorted(os.listdir(self.host.run / "demo"))


async def well(running: Running, *, deadline_s: float = 20) -> None:
    wanted = Health(path="/version", version_member="version")
    await health.check(running, wanted, version=running.placed.version, deadline_s=deadline_s, clock=CLOCK)


async def until(true: Any) -> None:
    """Wait until it is true, for at most 10 s."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
