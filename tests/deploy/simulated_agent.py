"""A small agent for the tests of the HTTP door: a test controls what its deployments do."""

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import zstandard

from agent.core.config.host import BundleLimits
from agent.core.drop import Awaited
from agent.core.tally import Tally
from agent.deploy.deployer import Rollback, Send
from agent.deploy.figures import AppFigures
from agent.doors.http.limits import DoorLimits
from agent.doors.http.server import HttpDoor
from agent.host.ports import Bundle
from pusher.wire import Event, Happened, Head, LogLine, LogUnit, Manifest, Problem

OWN_GROUP = "daemon"  # a group with one member, of the same name, on every Debian
TIME = 1_795_000_000_000
SIZES = Manifest(
    app="shop",
    version="v1",
    created=TIME,
    expires=TIME,
    index_sha256="0" * 64,
    index_size=0,
    files=1_000,
    unpacked_size=1024**3,
)
"""A manifest, instead of the empty one in `bundle`: for the budget of what follows it."""


def bundle(files: Mapping[str, bytes] | None = None, *, index: bytes = b'{"path":"a"}\n') -> bytes:
    """An archive that has the outer form of a bundle."""
    members = {"manifest.json": b"{}", "manifest.json.sig": b"signature", "index.jsonl": index}
    members |= {f"files/{path}": content for path, content in (files or {}).items()}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return zstandard.ZstdCompressor().compress(raw.getvalue())


class SimulatedDeployment:
    def __init__(self, id: str, app: str) -> None:
        self.id = id
        self.app = app
        self.happened: list[Event] = []
        self.all_read = asyncio.Event()
        self.watchers = 0
        self._news = asyncio.Event()

    def publish(self, event: str, **data: Any) -> None:
        self.happened.append(Event(len(self.happened) + 1, TIME, event, data))
        if event == Happened.FINISHED:
            self.all_read.set()
        news, self._news = self._news, asyncio.Event()
        news.set()

    def finish(self, problem: Problem | None = None) -> None:
        data: dict[str, Any] = {"deployment": self.id, "app": self.app, "outcome": "done"}
        if problem:
            data |= {"outcome": problem.outcome, "problem": problem.to_document()}
        self.publish(Happened.FINISHED, **data)

    @property
    def outcome(self) -> str | None:
        last = self.happened[-1] if self.happened else None
        return last.data["outcome"] if last and last.event == Happened.FINISHED else None

    async def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        self.watchers += 1
        try:
            while True:
                news = self._news
                while after < len(self.happened):
                    yield self.happened[after]
                    after += 1
                if self.outcome:
                    return
                await news.wait()
        finally:
            self.watchers -= 1

    async def finished(self) -> Event:
        self.watchers += 1
        try:
            while not self.outcome:
                await self._news.wait()
            return self.happened[-1]
        finally:
            self.watchers -= 1

    async def consumed(self) -> None:
        await self.all_read.wait()

    def summary(self) -> dict[str, Any]:
        return {"deployment": self.id, "app": self.app, "outcome": self.outcome}

    def course(self) -> dict[str, Any]:
        return {"signed_by": None, "steps": []}


@dataclass
class SimulatedApp:
    """One app, and each part of it that the door asks.

    A test sets `refusal` (raised when the manifest was read), `failure` (ends a deployment before its files are
    read), `known` (`submit` returns it, as for a bundle sent before), `bug`, `goes_on` (clear: a deployment stays
    unfinished), and `lines` and `news` of the log. It sees `calls`, and in `received` what each bundle held.
    """

    name: str
    refusal: Problem | None = None
    failure: Problem | None = None
    known: SimulatedDeployment | None = None
    bug: BaseException | None = None
    calls: list[tuple[object, ...]] = field(default_factory=list)
    received: list[dict[str, bytes]] = field(default_factory=list)
    broken: list[Problem] = field(default_factory=list)
    deployments: list[SimulatedDeployment] = field(default_factory=list)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    log_units: tuple[str, ...] = (*LogUnit, "worker")
    lines: list[LogLine] = field(default_factory=list)
    news: asyncio.Queue[LogLine] = field(default_factory=asyncio.Queue)
    readers: int = 0

    def __post_init__(self) -> None:
        self.goes_on.set()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def deployer(self) -> "SimulatedApp":
        return self

    @property
    def status(self) -> "SimulatedApp":
        return self

    async def submit(self, request: Send | Rollback) -> SimulatedDeployment:
        if self.bug:
            raise self.bug
        if isinstance(request, Rollback):
            self.calls.append(("rollback", request.by, request.to))
        else:
            await asyncio.to_thread(request.bundle.signed_manifest)
            self.calls.append(("send", request.by))
        if self.refusal:
            raise self.refusal
        if self.known:
            return self.known
        deployment = SimulatedDeployment(f"{self.name}-{len(self.deployments) + 1}", self.name)
        self.deployments.append(deployment)
        deployment.publish(Happened.STARTED, by=request.by)
        self._tasks.append(asyncio.create_task(self._run(deployment, getattr(request, "bundle", None))))
        return deployment

    def cancel(self, *, by: str, deployment: str = "") -> SimulatedDeployment:
        self.calls.append(("cancel", by, deployment))
        if self.refusal:
            raise self.refusal
        return self.deployments[-1]

    async def _run(self, deployment: SimulatedDeployment, bundle: Bundle | None) -> None:
        if self.failure:
            deployment.finish(self.failure)
            return
        try:
            if bundle is not None:
                self.received.append(await asyncio.to_thread(self._payload, bundle))
        except Problem as problem:
            self.broken.append(problem)
            deployment.finish(problem)
            return
        deployment.all_read.set()
        deployment.publish(Happened.STEP_STARTED, step="unpack")
        await self.goes_on.wait()
        deployment.publish(Happened.STEP_DONE, step="unpack", ms=1)
        deployment.finish()

    @staticmethod
    def _payload(bundle: Bundle) -> dict[str, bytes]:
        bundle.verified(SIZES)
        for _ in bundle.index(len(b'{"path":"a"}\n')):
            pass
        return {path: b"".join(content) for path, _, content in bundle.files()}

    async def missing(self, bundle: Bundle) -> list[str]:
        await asyncio.to_thread(bundle.signed_manifest)
        self.calls.append(("missing",))
        if self.refusal:
            raise self.refusal
        return ["ab" * 32]

    async def summary(self) -> dict[str, Any]:
        self.calls.append(("status",))
        if self.bug:
            raise self.bug
        return {"app": self.name, "live": None}

    async def health(self) -> dict[str, Any]:
        self.calls.append(("health",))
        return {"healthy": True, "why": "", "ms": 1, "asked": None}

    async def releases(self) -> dict[str, Any]:
        self.calls.append(("releases",))
        return {"app": self.name, "releases": []}

    async def sbom(self, release: str = "") -> dict[str, Any]:
        self.calls.append(("sbom", release))
        if self.refusal:
            raise self.refusal
        return {"bomFormat": "CycloneDX"}

    async def history(self) -> dict[str, Any]:
        return {**Head().members(), "problem": ""}

    async def records(self, *, after: int) -> AsyncIterator[bytes]:
        self.calls.append(("records", after))
        for number in range(after + 1, 4):
            yield b'{"record":%d}' % number

    async def log(self, *, lines: int, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        self.calls.append(("log", lines, follow, unit))
        self.readers += 1
        try:
            for line in self.lines[max(0, len(self.lines) - lines) :]:
                yield line
            if self.failure:
                raise self.failure
            while follow:
                yield await self.news.get()
        finally:
            self.readers -= 1

    async def index(self, release: str = "") -> AsyncIterator[bytes]:
        self.calls.append(("index", release))
        if self.refusal:
            raise self.refusal

        async def pieces() -> AsyncIterator[bytes]:
            yield b'{"path":"a"}\n{"path":"b"}\n'
            yield b'{"path":"c"}\n'

        return pieces()

    @property
    def figures(self) -> "SimulatedApp":
        return self

    async def read(self) -> AppFigures:
        self.calls.append(("figures",))
        if self.refusal:
            raise self.refusal
        await self.goes_on.wait()
        return AppFigures(
            tally=Tally(),
            releases={},
            live=None,
            deploying=False,
            running=False,
            healthy=None,
            restarts=0,
            drift=None,
            trouble=False,
            disk_free=None,
            disk_size=None,
        )

    async def command_began(self, run: str, *, by: str, release: str, command: str) -> None:
        self.calls.append(("command_began", run, by, release, command))

    async def command_ended(self, run: str, *, code: int) -> None:
        self.calls.append(("command_ended", run, code))

    async def pin(self, release: str, *, pinned: bool, by: str) -> None:
        self.calls.append(("pin", release, pinned, by))
        if self.refusal:
            raise self.refusal


class SimulatedDrop:
    """A drop directory where everything has arrived, and was deployed."""

    async def scan(self) -> None:
        return

    def waiting(self) -> list[Awaited]:
        return []

    async def results(self, manifest: str) -> AsyncIterator[Event]:
        yield Event(1, TIME, "landing", {"state": "deployed", "manifest": manifest})


class SimulatedNotices:
    """Nobody is told anything, unless a test names `ways`."""

    def __init__(self) -> None:
        self.ways: list[dict[str, Any]] = []
        self.tested: list[dict[str, Any]] = [{"way": "mail", "address": "ops@example.org", "problem": ""}]

    async def summary(self) -> list[dict[str, Any]]:
        return self.ways

    async def test(self) -> list[dict[str, Any]]:
        return self.tested


class SimulatedAgent:
    def __init__(self, *apps: str) -> None:
        self.apps = {app: SimulatedApp(app) for app in apps}
        self.host = "web1"
        self.drops = {app: SimulatedDrop() for app in apps}
        self.channels: dict[str, Any] = {}
        self.notices = SimulatedNotices()

    async def deployment(self, deployment: str) -> SimulatedDeployment | None:
        for app in self.apps.values():
            for one in app.deployments:
                if one.id == deployment:
                    return one
        return None


@asynccontextmanager
async def opened(*apps: str, **options: Any) -> AsyncIterator[tuple[HttpDoor, SimulatedAgent]]:
    """An open door over a simulated agent. `options` are those of `HttpDoor` and of its `DoorLimits`."""
    agent = SimulatedAgent(*apps)
    own = {one.name: options.pop(one.name) for one in fields(DoorLimits) if one.name in options}
    limits = BundleLimits(stall_s=5, total_s=20)
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # pytest's own folders are closed to other users
        path = Path(folder, "api.sock")
        defaults: dict[str, Any] = {"address": "127.0.0.1:0", "path": path, "group": OWN_GROUP, "limits": limits}
        defaults["door_limits"] = DoorLimits(**own)
        door = HttpDoor(agent, **{**defaults, **options})
        await door.start()
        try:
            yield door, agent
        finally:
            await door.stop()


async def until(condition: Any, *, deadline_s: float = 10) -> None:
    """Wait for something that happens soon."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.005)
