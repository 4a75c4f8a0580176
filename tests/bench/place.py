"""Where the bench works: a folder of its own, in it an agent with one app, and commands with their cost.

Invariant: the product runs as its users run it, in processes of its own; what was started is ended by its id.
"""

import os
import select
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

APP = "flask-demo"
BIN = Path(sys.executable).parent
SAMPLE = Path(__file__).parent.parent.parent / "app-src"
_PATIENCE_S = 300.0
# What would make Python compile every library again, or ask a proxy the way to this machine.
_LEFT_OUT = ("PYTHON", "PUSHER_", "COVERAGE_", "VIRTUAL_ENV")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)} | {
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


class Unmeasured(Exception):
    """Something did not do what was to be measured."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took: wall time, and the largest memory of it or of a process it waited for."""

    seconds: float
    peak_bytes: int
    output: str


def run(*argv: str | Path, environment: Mapping[str, str] = ENVIRONMENT) -> Cost:
    """Run a command to its good end. Raises: Unmeasured."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        late = not _ended(process)
        if late:
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")
    if process.returncode != 0:
        how = f"no end after {_PATIENCE_S:g} s" if late else f"exit status {process.returncode}"
        raise Unmeasured(f"{Path(argv[0]).name} {argv[1]}: {how}\n{said}")
    return Cost(seconds, usage.ru_maxrss * 1024, said)


class Place:
    """A host: its root, a trusted key, an agent that runs, and the sources of what is sent to it."""

    def __init__(self, folder: Path, *, cache: Path) -> None:
        self.root = folder / "root"
        self.sources = folder / "src"
        self._key = folder / "key"
        self._log = folder / "agent.log"
        self._cache = cache
        self._own_cache = folder / "own-cache"
        self._agent: subprocess.Popen[bytes] | None = None
        self._door, self.port = _free_ports(2)

    def __enter__(self) -> Self:
        shutil.copytree(SAMPLE, self.sources, ignore=shutil.ignore_patterns("__pycache__"))
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", self._key)
        options = ("--app", APP, "--listen", f"127.0.0.1:{self.port}", "--local", f"127.0.0.1:{self._door}")
        health = ("--health", "/version", "--version-member", "version")
        trust = ("--trust", self._key.with_suffix(".pub"))
        run(BIN / "pusher-agent", "init", "--root", self.root, *trust, *options, *health)
        # Wheels are downloaded once a run, not once a row.
        shutil.rmtree(self.root / "var/cache/pusher-agent")
        (self.root / "var/cache/pusher-agent").symlink_to(self._cache)
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._agent is not None:
            _end(self._agent)

    def restart(self) -> None:
        """Let the agent begin anew, with what its files say now."""
        self.__exit__()
        self._start()

    def send(self, what: str | Path, *, to: str = "") -> Cost:
        """`pusher send`, the whole command."""
        host = to or f"http://127.0.0.1:{self._door}"
        return self._pusher("send", what, "--host", host, "--app", APP, "--source", self.sources)

    def roll_back(self) -> Cost:
        """`curl -X POST .../rollback`, the whole command."""
        url = f"http://127.0.0.1:{self._door}/rollback"
        return run("curl", "-sS", "--fail-with-body", "-X", "POST", url)

    def gunicorn(self, version: str = "v1") -> float:
        """Seconds from the start of gunicorn alone to its first answer: the venv of the live release (byte code
        and all), the same app, a port of its own."""
        port = _free_ports(1)[0]
        program = self.root / f"opt/{APP}/current/venv/bin/gunicorn"
        argv = (program.resolve(strict=True), "-w", "2", "-b", f"127.0.0.1:{port}", "app:app")
        began = time.perf_counter()
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                argv, cwd=self.sources / version, stdout=output, stderr=output, env=ENVIRONMENT
            )
            try:
                _until_answered(process, port, "/version")
                return time.perf_counter() - began
            finally:
                _end(process)

    def agent_memory(self, member: str) -> int:
        """A size in bytes that /proc has of the agent's own process: `VmRSS` now, `VmHWM` at most."""
        for line in self._proc("status").read_text().splitlines():
            if line.startswith(f"{member}:"):
                return int(line.split()[1]) * 1024
        raise Unmeasured(f"the kernel does not say {member}")

    def agent_memory_at_rest(self) -> tuple[int, int]:
        """The memory of the agent's own process in bytes, and what of it no other process shares."""
        lines = self._proc("smaps_rollup").read_text().splitlines()[1:]
        sizes = {name.strip(":"): int(size) * 1024 for name, size, *_ in map(str.split, lines)}
        return sizes["Rss"], sizes["Private_Clean"] + sizes["Private_Dirty"]

    def publish(self, what: str | Path, repository: Path) -> Cost:
        """`pusher publish`, the whole command."""
        return self._pusher("publish", what, "--to", repository, "--app", APP, "--source", self.sources)

    def subscribe(self, repository: Path, **settings: str) -> None:
        """Let the app follow the channel, from the next `restart` on; these are its settings besides."""
        trust = ("--trust", self._key.with_suffix(".pub"))
        run(BIN / "pusher-agent", "subscribe", APP, repository, *trust, "--root", self.root)
        with (self.root / f"etc/pusher-agent/apps/{APP}.toml").open("a") as file:
            file.writelines(f'{name} = "{value}"\n' for name, value in settings.items())

    def scrape(self) -> float:
        """Seconds of one scrape of the metrics, its connection included."""
        began = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", self._door, timeout=_PATIENCE_S)
        with closing(connection):
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            said = answer.read()
        if answer.status != 200:
            raise Unmeasured(f"/metrics answered {answer.status}: {said!r}")
        return time.perf_counter() - began

    def remember(self, deployments: int) -> None:
        """Let the journal know so many old deployments."""
        with closing(sqlite3.connect(self.root / "var/lib/pusher-agent/journal.sqlite")) as db, db:
            db.executemany(
                "insert into deployments (id, app, kind, release, version, made_by, phase, started, finished)"
                " values (?, ?, ?, 'R', 'v0', 'bench', ?, ?, ?)",
                [
                    (f"{APP}-2020{number:010}Z", APP, ("deploy", "rollback")[number % 2],
                     ("done", "failed", "stuck")[number % 3], number, number + 10 * number)
                    for number in range(deployments)
                ],
            )  # fmt: skip

    def forget_packages(self) -> None:
        """Let the agent and the sender download packages anew."""
        for folder in (self._cache, self._own_cache):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def forget_agent_peak(self) -> None:
        """Let `VmHWM` begin anew (proc(5), clear_refs)."""
        self._proc("clear_refs").write_text("5")

    def index_bytes(self) -> int:
        """The size of the live release's index."""
        return (self.root / f"opt/{APP}/current/.pusher/index.jsonl").stat().st_size

    @contextmanager
    def counted(self) -> Iterator[tuple[str, Callable[[], int]]]:
        """An address that leads to the agent's socket, and how many bytes have gone there so far."""
        relay = _Relay(self.root / "relay.sock", self.root / "run/pusher-agent/api.sock")
        try:
            yield f"unix:{relay.path}", lambda: relay.count
        finally:
            relay.close()

    def _start(self) -> None:
        with self._log.open("wb") as log:
            argv = (BIN / "pusher-agent", "serve", "--root", self.root)
            self._agent = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT)
        try:
            _until_answered(self._agent, self._door, "/healthz")
        except BaseException:
            self.__exit__()
            raise

    def _pusher(self, *arguments: str | Path) -> Cost:
        own = {"PUSHER_KEY": str(self._key), "XDG_CACHE_HOME": str(self._own_cache)}
        return run(BIN / "pusher", *arguments, environment={**ENVIRONMENT, **own})

    def _proc(self, name: str) -> Path:
        if self._agent is None:
            raise RuntimeError("no agent was started")
        return Path(f"/proc/{self._agent.pid}/{name}")


class _Relay:
    """A unix socket that passes everything on to another one, and counts what goes there."""

    def __init__(self, path: Path, to: Path) -> None:
        self.path, self.count = path, 0
        self._to = str(to)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()
        self.path.unlink()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listening.accept()
            except OSError:
                return
            theirs = socket.socket(socket.AF_UNIX)
            theirs.connect(self._to)
            threading.Thread(target=self._pass, args=(ours, theirs, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(theirs, ours, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        while piece := source.recv(65536):
            self.count += len(piece) if counted else 0
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def _ended(process: subprocess.Popen[bytes], *, within_s: float = _PATIENCE_S) -> bool:
    """Wait for a process without taking its exit status; whether it has ended."""
    descriptor = os.pidfd_open(process.pid)
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    if not _ended(process, within_s=20):
        process.kill()
    process.wait()


def _until_answered(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    """Ask a server that is starting until it answers 200."""
    deadline = time.perf_counter() + 30
    while True:
        if time.perf_counter() > deadline or process.poll() is not None:
            raise Unmeasured(f"{process.args!r} does not answer at port {port}")
        try:
            asking = socket.create_connection(("127.0.0.1", port), timeout=30)
        except ConnectionRefusedError:
            time.sleep(0.001)
            continue
        with asking:
            asking.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            answer = asking.recv(64)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise Unmeasured(f"{process.args!r} answers {answer!r}")
        return


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, as the kernel chose them."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
