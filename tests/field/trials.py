"""One application on one host, as its owner sends it: first version, second version, rollback, under visitors.

Invariant: only commands that an owner types, `pusher` and `pusher-agent`, and root's on the host.
"""

import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.bench.place import BIN, ENVIRONMENT
from tests.field.shapes import Shape
from tests.host import make_key
from tests.ports import free_port
from tests.system.server import Server

_PAUSE_S = 0.02
_PATIENCE_S = 60.0


@dataclass(slots=True)
class Visits:
    """How long each answer took, in seconds, and what went wrong instead."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a shape: each step's outcome ("" if well), the visits, and the seconds of the first send."""

    shape: str
    first: str
    second: str = "not tried"
    back: str = "not tried"
    visits: Visits = field(default_factory=Visits)
    seconds: float = 0.0


class Host(Protocol):
    """Where an application goes."""

    name: str

    def add(self, app: str, shape: Shape) -> str:
        """Add an app for a shape. Returns its address."""
        ...

    def send(self, app: str, project: Path, version: str) -> str:
        """Send the project as this version; "" or what went wrong."""
        ...

    def roll_back(self, app: str) -> str:
        """Roll back; "" or what went wrong."""
        ...

    def remove(self, app: str) -> None:
        """Remove the app."""
        ...


def tried(shape: Shape, host: Host, *, app: str, folder: Path) -> Result:
    """The whole way of one shape on a host."""
    project = folder / app
    address = host.add(app, shape)
    try:
        _write(project, shape, "v1")
        if shape.lock:
            _lock(project, shape.lock, virtual=folder)
        done = _typed("pusher", "init", str(project), "--app", app)
        if done.returncode:
            return Result(shape=shape.name, first=done.stderr.strip())
        if shape.toml:
            _amend(project / "pusher.toml", shape.toml)
        began = time.perf_counter()
        first = host.send(app, project, "v1") or _says(address, "v1", shape)
        seconds = time.perf_counter() - began
        if first:
            return Result(shape=shape.name, first=first, seconds=seconds)
        with visited(address) as visits:
            _write(project, shape, "v2")
            second = host.send(app, project, "v2") or _says(address, "v2", shape)
            back = host.roll_back(app) or _says(address, "v1", shape)
        return Result(shape=shape.name, first="", second=second, back=back, visits=visits, seconds=seconds)
    finally:
        host.remove(app)
        shutil.rmtree(project, ignore_errors=True)


@contextmanager
def visited(address: str) -> Iterator[Visits]:
    """Visitors, each on a fresh connection, one after the other."""
    visits, over = Visits(), threading.Event()

    def visit() -> None:
        while not over.wait(_PAUSE_S):
            began = time.perf_counter()
            try:
                _ask(address)
                visits.seconds.append(time.perf_counter() - began)
            except (OSError, ValueError) as error:
                visits.failures.append(str(error))

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        yield visits
    finally:
        over.set()
        visitor.join()


class EmbeddedHost:
    """An agent that is the parent of its apps, one for each app."""

    name = "embedded"

    def __init__(self, folder: Path, *, cache: Path) -> None:
        self._folder = folder
        self._cache = cache
        self._key = folder / "key"
        make_key(self._key)
        self._agents: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        self._brokers: dict[str, subprocess.Popen[bytes]] = {}

    def add(self, app: str, shape: Shape) -> str:
        root, door, port = self._folder / f"{app}-root", free_port(), free_port()
        trust = ("--trust", str(self._key.with_suffix(".pub")), "--local", f"127.0.0.1:{door}")
        _well("pusher-agent", "init", "--root", str(root), *trust, "--app", app, "--listen", f"127.0.0.1:{port}")
        file = root / f"etc/pusher-agent/apps/{app}.toml"
        file.write_text(_host_file(file.read_text(), shape))
        if shape.redis:
            (root / "etc/redis.env").write_text(f"REDIS_URL=redis://127.0.0.1:{self._start_redis(app)}/0\n")
        shutil.rmtree(root / "var/cache/pusher-agent")
        (root / "var/cache/pusher-agent").symlink_to(self._cache)
        with (root / "agent.log").open("wb") as log:
            argv = (str(BIN / "pusher-agent"), "serve", "--root", str(root))
            agent = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT)
        self._agents[app] = agent, door
        _until(lambda: _opens(f"http://127.0.0.1:{door}/healthz"))
        return f"http://127.0.0.1:{port}"

    def send(self, app: str, project: Path, version: str) -> str:
        return self._pusher(app, "send", str(project), "--as", version, "--config", str(project / "pusher.toml"))

    def roll_back(self, app: str) -> str:
        return self._pusher(app, "rollback")

    def remove(self, app: str) -> None:
        agent, _ = self._agents.pop(app)
        for one in (agent, *([self._brokers.pop(app)] if app in self._brokers else [])):
            one.terminate()
            one.wait(_PATIENCE_S)
        shutil.rmtree(self._folder / f"{app}-root", ignore_errors=True)

    def _start_redis(self, app: str) -> int:
        port = free_port()
        argv = ("redis-server", "--port", str(port), "--save", "", "--dir", str(self._folder))
        quiet = subprocess.DEVNULL
        self._brokers[app] = subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet)
        return port

    def _pusher(self, app: str, *words: str) -> str:
        door = f"http://127.0.0.1:{self._agents[app][1]}"
        key = ("--key", str(self._key)) if words[0] == "send" else ()
        done = _typed("pusher", *words, "--app", app, "--host", door, *key)
        return done.stderr.strip() if done.returncode else ""


class BootedHost:
    """A server under systemd that has no way out: wheels travel."""

    name = "systemd"

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ports = iter(range(8100, 9000))

    def add(self, app: str, shape: Shape) -> str:
        port = next(self._ports)
        self._server.machine.run("pusher-agent", "app", "add", app, "--listen", f"0.0.0.0:{port}")
        file = self._server.machine.root / f"etc/pusher-agent/apps/{app}.toml"
        if shape.redis:
            (self._server.machine.root / "etc/redis.env").write_text("REDIS_URL=redis://127.0.0.1:6379/0\n")
            self._server.machine.run(
                "systemd-run", "--unit=redis-here", "redis-server", "--save", "", "--dir", "/run"
            )
        if shape.app_toml:
            file.write_text(_host_file(file.read_text(), shape))
            self._server.machine.run("pusher-agent", "app", "apply", app)
        known = ("curl", "-sS", f"agent:9000/apps/{app}/status")
        self._server.machine.until(lambda: '"app"' in self._server.machine.says(*known), seconds=30)
        return f"http://{self._server.machine.address}:{port}"

    def send(self, app: str, project: Path, version: str) -> str:
        bundle = self._server.machine.root / f"srv/{app}.tar.zst"
        key = str(self._server.folder / "key")
        words = ("--app", app, "--as", version, "--key", key, "--build-wheels", "--output", str(bundle))
        done = _typed("pusher", "pack", str(project), "--config", str(project / "pusher.toml"), *words)
        if done.returncode:
            return done.stderr.strip()
        bundle.chmod(0o644)
        return _problem(self._server.curl(f"/apps/{app}/deployments", "--data-binary", f"@/srv/{bundle.name}"))

    def roll_back(self, app: str) -> str:
        return _problem(self._server.curl(f"/apps/{app}/rollback", "-X", "POST"))

    def remove(self, app: str) -> None:
        self._server.machine.run("pusher-agent", "app", "remove", app, "--purge")
        self._server.machine.run("systemctl", "stop", "redis-here", check=False)


def _host_file(text: str, shape: Shape) -> str:
    """The app's file, as root amends it."""
    return ('environment_file = "/etc/redis.env"\n' if shape.redis else "") + text + shape.app_toml


def _problem(answer: dict[str, object]) -> str:
    return "" if answer.get("outcome") == "done" else json.dumps(answer)


def _write(project: Path, shape: Shape, version: str) -> None:
    for name, text in shape.files(version).items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)


def _amend(file: Path, table: str) -> None:
    """Add what the owner writes into [run]."""
    file.write_text(f"{file.read_text().rstrip()}\n{table}")


def _says(address: str, version: str, shape: Shape) -> str:
    """What is wrong with the answers; "" if they are the version's."""
    for path in ("/version", "/work") if shape.redis else ("/version",):
        try:
            said = _ask(address, path)
        except (OSError, ValueError) as error:
            return f"it does not answer at {path}: {error}"
        if said.get("version") != version:
            return f"it answers {said} at {path}"
    return ""


def _ask(address: str, path: str = "/version") -> dict[str, object]:
    with urllib.request.urlopen(f"{address}{path}", timeout=_PATIENCE_S) as answer:
        found: dict[str, object] = json.loads(answer.read())
        return found


def _opens(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=_PATIENCE_S).close()
    except OSError:
        return False
    return True


def _until(true: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + _PATIENCE_S
    while not true():
        if time.perf_counter() > deadline:
            raise TimeoutError("the agent does not answer")
        time.sleep(0.05)


def _lock(project: Path, argv: tuple[str, ...], *, virtual: Path) -> None:
    """Make the project's lock file. What its tool makes besides, goes into the folder `virtual`."""
    aside = {"WORKON_HOME": str(virtual), "POETRY_VIRTUALENVS_CREATE": "false"}
    done = subprocess.run(
        (str(BIN / argv[0]), *argv[1:]),
        cwd=project,
        env={**ENVIRONMENT, **aside},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise RuntimeError(f"{argv}: {done.stdout}{done.stderr}")


def _well(*argv: str) -> None:
    done = _typed(*argv)
    if done.returncode:
        raise RuntimeError(f"{argv}: {done.stdout}{done.stderr}")


def _typed(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    argv = (str(BIN / program), *words)
    return subprocess.run(
        argv, env=ENVIRONMENT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
