"""What `submit` stores, and what it refuses without a trace; and the lock that it takes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from agent.core.config.app import AppConfig
from agent.core.config.host import BundleLimits
from agent.core.layout import AppLayout, metadata_folder
from agent.core.plan import Attempt, Kind
from agent.core.run import RunRules
from agent.core.signing import SigningRules
from agent.deploy.admission import Admission, VerifiedManifest
from agent.deploy.deployer import Deployer, Rollback, Send
from agent.deploy.deployment import Deployment
from agent.deploy.executor import Executor
from agent.deploy.ground import Ground, Place
from agent.deploy.in_force import InForce, Parts
from agent.deploy.lock import DeploymentLock
from agent.deploy.recovery import AppRecovery
from agent.deploy.retention import Retention
from agent.deploy.status_line import StatusLine
from agent.host.bundle.signatures import TrustFiles
from agent.host.clock import SystemClock
from agent.host.dependencies.builder import LocalBuilder
from agent.host.dependencies.pythons import Pythons
from agent.host.dependencies.venvs import Venvs
from agent.host.ports import Bundle, Service
from agent.host.releases.revocations import Revocations
from agent.host.releases.store import ReleaseStore
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Code, File, Manifest, Refused, index_line
from tests.crash.simulated_service import SimulatedProcesses

CLOCK = SystemClock()
INDEX = b"".join(
    index_line(File(name, 0o644, 1, hashlib.sha256(b"1").hexdigest())) for name in ("app.py", "requirements.txt")
)


def verified(index: bytes) -> VerifiedManifest:
    """A manifest that names this index, as a door hands it over."""
    manifest = Manifest(
        app="app",
        version="v1",
        created=CLOCK.now(),
        expires=CLOCK.now() + 1_000_000,
        index_sha256=hashlib.sha256(index).hexdigest(),
        index_size=len(index),
        files=2,
        unpacked_size=2,
    )
    raw = manifest.to_bytes()
    return VerifiedManifest(
        manifest, raw, b"signature", hashlib.sha256(raw).hexdigest(), signer="alice", receive_ms=0, verify_ms=0
    )


class Swapped:
    """A bundle that was swapped since its manifest was verified: manifest and signature are others now."""

    def __init__(self, index: bytes) -> None:
        self._index = index

    def signed_manifest(self) -> tuple[bytes, bytes]:
        return b"another manifest", b"another signature"

    def verified(self, manifest: object) -> None: ...

    def index(self, size: int) -> Iterator[bytes]:
        yield from self._index.splitlines(keepends=True)

    def files(self) -> Iterator[Any]:
        return iter(())


class IdleExecutor:
    """An executor that carries nothing out."""

    def begin(self, attempt: Attempt, **_: Any) -> Deployment:
        return Deployment(attempt, clock=CLOCK)

    async def carry_out(self, deployment: Deployment, **_: Any) -> None: ...


class ReadyService:
    """A service that is ready, unless a test gives it a `refusal`."""

    refusal: Refused | None = None

    async def ready(self) -> None:
        if self.refusal is not None:
            raise self.refusal


class App:
    def __init__(self, root: Path, journal: Journal) -> None:
        store, self.lock = ReleaseStore(AppLayout(root / "app")), DeploymentLock("app")
        self.store, self.journal = store, journal
        self.readiness = ReadyService()
        executor, service, disk = cast("Executor", IdleExecutor()), cast("Service", self.readiness), Disk()
        trust = TrustFiles(root / "allowed_signers")
        revocations = Revocations(store.layout, files=trust, rules=SigningRules())
        config = AppConfig(path=str(root / "app"), user="me")
        admission = Admission(
            "app",
            config=config,
            rules=RunRules("app", config, "app.toml"),
            host="web1",
            limits=BundleLimits(),
            trust=trust,
            pythons=Pythons(),
            disk=disk,
            journal=journal,
            clock=CLOCK,
        )
        recovery = AppRecovery(
            "app",
            executor=executor,
            lock=self.lock,
            store=store,
            disk=disk,
            service=service,
            processes=SimulatedProcesses(),
            journal=journal,
            clock=CLOCK,
            status_line=StatusLine("app", lambda: None),
        )
        store.layout.path.mkdir()
        venvs = Venvs(
            store.layout,
            disk,
            root / "cache",
            config.dependencies,
            Path("uv"),
            builder=LocalBuilder(disk, root / "work"),
        )
        retention = Retention("app", 5, store, disk, journal, revocations)
        parts = Parts(config, admission, executor, retention, venvs, revocations)
        self.deployer = Deployer(
            "app",
            in_force=InForce(parts, file=None, make=lambda _: parts, apply=lambda _: None, lock=self.lock),
            recovery=recovery,
            lock=self.lock,
            store=store,
            service=service,
            ground=Ground(
                Place("app", root / "hooks", root, lambda path: ""),
                store=store,
                service=service,
                clock=CLOCK,
                differs=lambda: "",
            ),
            journal=journal,
            clock=CLOCK,
        )


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    journal = Journal(tmp_path / "journal.sqlite")
    await journal.open()
    yield App(tmp_path, journal)
    await journal.close()


async def test_what_is_stored_is_what_was_verified_even_if_the_bundle_was_swapped_meanwhile(app: App) -> None:
    one = verified(INDEX)
    begun = await app.deployer.submit(Send(cast("Bundle", Swapped(INDEX)), "alice", one))
    folder = metadata_folder(app.store.layout.staged(begun.attempt.release))
    stored = {path.name: path.read_bytes() for path in folder.iterdir()}
    signed = {"manifest.json": one.raw, "manifest.json.sig": one.signature, "index.jsonl": INDEX}
    assert stored == {**signed, "signers": b"alice\n"}
    record = await app.journal.of_manifest("app", one.digest)
    assert record is not None
    assert record.attempt == begun.attempt
    await app.lock.free()


async def test_an_index_that_was_swapped_meanwhile_is_refused_and_leaves_nothing(app: App) -> None:
    other = INDEX.replace(b'"size":1', b'"size":2')
    with pytest.raises(Refused) as caught:
        await app.deployer.submit(Send(cast("Bundle", Swapped(other)), "alice", verified(INDEX)))
    assert caught.value.code is Code.CONTENT_MISMATCH
    assert await asyncio.to_thread(app.store.unfinished) == []
    assert await app.journal.ids("app") == []
    assert not app.lock.held


async def test_what_a_rollback_lacks_is_said_before_what_the_service_lacks(app: App) -> None:
    app.readiness.refusal = Refused(Code.SERVICE_FAILED, "app.service cannot be started")
    with pytest.raises(Refused) as caught:
        await app.deployer.submit(Rollback("alice"))
    assert caught.value.code is Code.NOTHING_TO_ROLL_BACK_TO
    assert not app.lock.held


async def test_a_service_that_is_not_ready_refuses_a_bundle_and_nothing_is_left(app: App) -> None:
    app.readiness.refusal = Refused(Code.SERVICE_FAILED, "app.service cannot be started")
    with pytest.raises(Refused) as caught:
        await app.deployer.submit(Send(cast("Bundle", Swapped(INDEX)), "alice", verified(INDEX)))
    assert caught.value is app.readiness.refusal
    assert await asyncio.to_thread(app.store.unfinished) == []
    assert not app.lock.held


async def test_the_lock_names_who_holds_it_and_what_for() -> None:
    lock = DeploymentLock("shop")
    lock.acquire(by="alice", doing="deploying v3")
    waiting = asyncio.create_task(lock.free())
    with pytest.raises(Refused, match="alice is deploying v3 on shop") as caught:
        lock.acquire(by="bob", doing="rolling back")
    assert (caught.value.code, caught.value.hint) == (Code.BUSY, "Try again soon")
    attempt = Attempt(
        id="shop-1", app="shop", kind=Kind.DEPLOY, release="1", version="v3", previous=None, by="alice"
    )
    lock.deployment = Deployment(attempt, clock=CLOCK)
    with pytest.raises(Refused) as caught:
        lock.check_free()
    assert "--deployment shop-1 " in caught.value.hint
    assert not waiting.done()
    lock.release()
    await waiting
    lock.check_free()
    assert lock.deployment is None
