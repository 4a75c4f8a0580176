"""A subscribed host with the product's own channel door, journal and release store, and an app that only pretends.

A deployment here unpacks what was fetched, compares it with the index, and makes it live; nothing is started. So a
thousand of them fit on a machine, and a test of the door needs no application.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.core.config.app import AppConfig, Subscribe
from agent.core.config.host import BundleLimits
from agent.core.layout import AppLayout, next_release_id
from agent.core.phases import Phase
from agent.core.plan import Attempt, Kind, deployment_id, time_id
from agent.core.releases import Standing
from agent.core.run import RunRules
from agent.deploy.admission import Admission
from agent.deploy.deployer import Rollback, Send
from agent.deploy.deployment import Deployment
from agent.deploy.lock import DeploymentLock
from agent.deploy.subscribed import Subscribed
from agent.doors.channel.bell import Bell
from agent.doors.channel.reading import ChannelReader, Verify
from agent.doors.channel.reporter import Reporter
from agent.doors.channel.subscription import Subscription
from agent.host.bundle.signatures import TrustFiles
from agent.host.channel.identity import Identity
from agent.host.channel.mirror import Mirror
from agent.host.channel.nats_bus import NatsBus
from agent.host.channel.signed import read_channel
from agent.host.clock import SystemClock
from agent.host.dependencies.pythons import Pythons
from agent.host.releases.store import ReleaseStore
from agent.host.releases.unpack import unpack
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Code, Failed, Happened, Problem
from pusher.wire.channel import bell_name

APP = "flask-demo"


class PatientClock(SystemClock):
    """A clock whose pauses end when a test says so. `pauses` are those that were made, `shift` moves its time,
    `under_way` says how many pauses last.
    """

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.under_way = 0
        self.shift = 0
        self._end = asyncio.Event()

    def now(self) -> int:
        return super().now() + self.shift

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.under_way += 1
        try:
            await self._end.wait()
        finally:
            self.under_way -= 1

    def end(self) -> None:
        """End the pauses under way."""
        end, self._end = self._end, asyncio.Event()
        end.set()


class SubscribedHost:
    """One host. `bad` are versions that fail when they are deployed, each with the code of its problem."""

    def __init__(
        self,
        root: Path,
        mirrors: Sequence[Mirror],
        *,
        signers: Path,
        name: str = "web1",
        clock: SystemClock | None = None,
        settings: Subscribe | None = None,
        shuffle: Callable[[list[Mirror]], None] = lambda order: None,
        reports: bool = False,
        bell: bool = False,
        bus: NatsBus | None = None,
        verify: Verify = read_channel,
        identity: Identity | None = None,
    ) -> None:
        self.root = root
        self.name = APP
        self.host = name
        self.bad: dict[str, Code] = {}
        self.store = ReleaseStore(AppLayout(root / "app"))
        self.journal = Journal(root / "journal.sqlite")
        self.clock = clock or SystemClock()
        self.lock = DeploymentLock(APP)
        self.mirrors = mirrors
        self.signers = signers
        self.settings = settings or Subscribe(repository=["https://unused.example"])
        self.shuffle = shuffle
        self.reports = reports
        self.bell = bell or bus is not None
        self.bus = bus
        self.verify = verify
        self.identity = identity or Identity(root / "identity", host=name, disk=Disk())
        self.folder = root / "fetched"
        self.running = False
        self.deployed: list[str] = []
        self.live = ""
        """The version that is live."""
        self._tasks: set[asyncio.Task[None]] = set()
        config = AppConfig(path=str(root / "app"), user="demo")
        self.admission = Admission(
            app=APP,
            config=config,
            rules=RunRules(APP, config, "demo.toml"),
            pythons=Pythons(),
            host=name,
            limits=BundleLimits(),
            trust=TrustFiles(signers),
            disk=Disk(),
            journal=self.journal,
            clock=self.clock,
        )
        self.subscription = self._subscription()

    def _subscription(self) -> Subscription:
        subscribed = Subscribed(
            APP, host=self.host, lock=self.lock, store=self.store, journal=self.journal, clock=self.clock
        )
        reader = ChannelReader(
            APP,
            self.settings.channel,
            mirrors=self.mirrors,
            files=TrustFiles(self.signers),
            subscribed=subscribed,
            now=self.clock.now,
            shuffle=self.shuffle,
            verify=self.verify,
        )
        return Subscription(
            self,
            settings=self.settings,
            host=self.host,
            reader=reader,
            subscribed=subscribed,
            folder=self.folder,
            clock=self.clock,
            reporter=Reporter(
                APP,
                channel=self.settings.channel,
                host=self.host,
                every_s=self.settings.report_s,
                labels=self.settings.labels,
                identity=self.identity,
                reader=reader,
                now=self.clock.now,
                chance=lambda: 1.0,
                bus=self.bus,
            )
            if self.reports
            else None,
            bell=Bell(
                bell_name(APP, self.settings.channel),
                reader=reader,
                clock=SystemClock(),
                chance=lambda: 0.1,
                bus=self.bus,
            )
            if self.bell
            else None,
        )

    @property
    def deployer(self) -> "SubscribedHost":
        return self

    @property
    def status(self) -> "SubscribedHost":
        return self

    def shown(self) -> dict[str, Any]:
        """The subscription as the status has it."""
        return self.subscription.summary()

    async def idle(self) -> None:
        await self.lock.free()

    @property
    def ended(self) -> int:
        return self.lock.ended

    async def another(self, *, after: int) -> None:
        await self.lock.another(after=after)

    async def start(self) -> None:
        """Begin, or begin once more after `stop`, as a new agent does."""
        self.root.mkdir(parents=True, exist_ok=True)
        await self.journal.open()
        await self.subscription.start()
        self.running = True

    async def stop(self) -> None:
        if not self.running:
            return
        self.running = False
        await self.subscription.stop()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.journal.close()

    async def restart(self) -> None:
        """Another agent in the same place."""
        await self.stop()
        self.journal = Journal(self.root / "journal.sqlite")
        self.lock = DeploymentLock(APP)
        self.admission = Admission(
            **{**{name: getattr(self.admission, name) for name in Admission.__slots__}, "journal": self.journal}
        )
        self.subscription = self._subscription()
        await self.start()

    async def submit(self, request: Send | Rollback) -> Deployment:
        """As the real one, from the checks of a manifest to the end, without an application."""
        kind = Kind.DEPLOY if isinstance(request, Send) else Kind.ROLLBACK
        self.lock.acquire(by=request.by, doing=kind.value)
        try:
            used = {time_id(one) for one in await self.journal.ids(APP)}
            time = next_release_id(self.clock.now(), used)
            release, version, manifest, created = time, "", "", 0
            verified = None
            if isinstance(request, Send):
                verified = request.verified or await self.admission.receive(request.bundle)
                tried = await self.journal.of_manifest(APP, verified.digest) is not None
                await self.admission.check(verified, retry=tried)
                version, manifest, created = verified.manifest.version, verified.digest, verified.manifest.created
                staged = self.store.layout.staged(time)
                await asyncio.to_thread(self.admission.store, verified, request.bundle, staged)
            else:
                release = request.to or ""
                version = (await asyncio.to_thread(self.store.placed, release)).version
                manifest = await asyncio.to_thread(self.store.manifest, release)
            attempt = Attempt(
                id=deployment_id(APP, time),
                app=APP,
                kind=kind,
                release=release,
                version=version,
                previous=await asyncio.to_thread(self.store.live),
                by=request.by,
                manifest=manifest,
            )
            await self.journal.begin(attempt, manifest=manifest, created=created, now=self.clock.now())
        except BaseException:
            self.lock.release()
            raise
        deployment = Deployment(attempt, clock=self.clock)
        self.lock.deployment = deployment
        task = asyncio.create_task(self._run(deployment, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return deployment

    async def _run(self, deployment: Deployment, request: Send | Rollback) -> None:
        attempt, problem = deployment.attempt, None
        try:
            if code := self.bad.get(attempt.version):
                raise Failed(code, f"{attempt.version} does not serve")
            if isinstance(request, Send):
                await asyncio.to_thread(self.place, attempt, request)
            link = self.store.layout.current
            await asyncio.to_thread(Disk().flip, link, f"./releases/{attempt.release}", op="flip")
        except Problem as found:
            problem = found
        phase = Phase.FAILED if problem else Phase.DONE
        event = deployment.next_event(Happened.FINISHED, outcome=phase.value)
        await self.journal.finish(
            attempt,
            phase,
            now=self.clock.now(),
            problem=problem,
            standing=None if problem else Standing.GOOD,
            forget=problem is not None and isinstance(request, Send),
        )
        if not problem:
            self.deployed.append(attempt.version)
            self.live = attempt.version
        self.lock.release()
        deployment.publish(event)

    def place(self, attempt: Attempt, request: Send) -> None:
        """Unpack what was fetched, compared with its index, into the folder of the release. Blocking."""
        layout = self.store.layout
        staged = layout.staged(attempt.release)
        unpack(
            request.bundle,
            into=staged,
            version=attempt.version,
            releases=self.store.folders,
            disk=Disk(),
            limits=BundleLimits().tree,
        )
        layout.releases.mkdir(parents=True, exist_ok=True)
        staged.rename(layout.release(attempt.release))

    async def rolled_back(self, version: str) -> None:
        """What a person does on this host."""
        to = next(one.id for one in await self.journal.releases(APP) if one.version == version)
        deployment = await self.submit(Rollback("alice", to=to))
        await deployment.finished()

    async def until(self, state: str, *, version: str = "", code: str = "", awaited: str = "") -> dict[str, Any]:
        """Read the channel, as often as it takes, until it shows this."""
        clock = self.clock
        async with asyncio.timeout(20):
            while True:
                found = self.shown()
                wanted: Mapping[str, Any] = found["wanted"] or {}
                problem: Mapping[str, Any] = found["problem"] or {}
                if (
                    found["state"] == state
                    and (not version or wanted.get("version") == version)
                    and (not code or problem.get("code") == code)
                    and (not awaited or found["awaited"] == awaited)
                ):
                    return found
                if isinstance(clock, PatientClock):
                    clock.end()
                await asyncio.sleep(0.01)

    async def polled(self, times: int = 1) -> None:
        """Let it read the channel so many times more."""
        clock = self.clock
        assert isinstance(clock, PatientClock)
        for _ in range(times):
            async with asyncio.timeout(20):
                while not clock.under_way:  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0.005)
                before = len(clock.pauses)
                clock.end()
                while len(clock.pauses) == before:  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0.005)


@asynccontextmanager
async def following(host: SubscribedHost) -> AsyncIterator[SubscribedHost]:
    """Run the subscription of a host during the block."""
    await host.start()
    try:
        yield host
    finally:
        await host.stop()
