"""Each step by itself: what it does and what its undo leaves, on a real disk, with a simulated service."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.core.plan import Attempt, Kind
from agent.core.releases import Release, Standing
from agent.core.run import RunRules
from agent.core.signing import SigningRules
from agent.deploy.retention import Retention
from agent.deploy.steps.cleanup import Cleanup
from agent.deploy.steps.confirm import Confirm
from agent.deploy.steps.dependencies import Dependencies
from agent.deploy.steps.link_shared import LinkShared
from agent.deploy.steps.preflight import Preflight
from agent.deploy.steps.processes import Processes
from agent.deploy.steps.restart import Restart
from agent.deploy.steps.step import Inputs, placed
from agent.deploy.steps.switch import Switch
from agent.deploy.steps.unpack import Unpack
from agent.host.bundle.signatures import TrustFiles
from agent.host.clock import SystemClock
from agent.host.dependencies.venvs import Venvs
from agent.host.ports import Bundle, Lines, Placed
from agent.host.releases.revocations import Revocations
from agent.host.releases.store import ReleaseStore
from agent.host.releases.unpack import write_metadata
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Code, Failed, File, Limits, Manifest, Refused, Stuck, index_line
from tests.crash.simulated_service import SimulatedMain, SimulatedProcesses, SimulatedService

V0, V1, V2 = "20261123010000Z", "20261123020000Z", "20261123020055Z"
CLOCK, DISK = SystemClock(), Disk()


def attempt(*, previous: str | None = V1) -> Attempt:
    return Attempt(
        id=f"app-{V2}", app="app", kind=Kind.DEPLOY, release=V2, version="v2", previous=previous, by="me"
    )


class RecordingService(SimulatedService):
    """The simulated service; `words` are what it was asked to do, `mains` all that it started."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.words: list[str] = []
        self.mains: list[SimulatedMain] = []
        self.refusal: Refused | None = None
        self.broken = self.halting = False

    async def ending(self) -> bool:
        return self.halting

    async def reserve(self) -> None:
        self.words.append("reserve")
        if self.refusal:
            raise self.refusal

    async def try_out(self, placed: Placed) -> SimulatedMain:
        self.words.append(f"try {placed.version}")
        self.mains.append(await super().try_out(placed))
        return self.mains[-1]

    async def restart(self, placed: Placed) -> SimulatedMain:
        self.words.append(f"restart {placed.version}")
        if self.broken:
            raise Failed(Code.SERVICE_FAILED, "Nothing starts here")
        return await super().restart(placed)

    async def mend(self) -> None:
        self.words.append("mend")

    async def stop(self) -> None:
        self.words.append("stop")
        await super().stop()


class App:
    """An app on a real disk, with what its steps are made of."""

    def __init__(self, root: Path, journal: Journal) -> None:
        self.layout = AppLayout(root / "opt/app")
        self.store = self.storing(self.configured())
        self.journal = journal
        self.revocations = Revocations(
            self.layout, files=TrustFiles(root / "allowed_signers"), rules=SigningRules(), allowed=(V0, V1, V2)
        )
        self.config = self.configured()
        self.service = RecordingService("app", self.config, host=HostLayout(root), clock=CLOCK)
        self.processes = SimulatedProcesses()
        self.lines: list[str] = []

    def configured(self, **settings: Any) -> AppConfig:
        health = {"version_member": "version", "deadline_s": 1, "bake_s": 0.1}
        return AppConfig.model_validate({"path": "/opt/app", "user": "me", "health": health, **settings})

    def storing(self, config: AppConfig) -> ReleaseStore:
        """The store of the app, whose releases run as this configuration says."""
        return ReleaseStore(self.layout, RunRules("app", config, "app.toml").unsaid())

    def release(self, release: str, version: str, *, says: str = "") -> Path:
        """A whole release that was signed, whose app says its version."""
        path = self.layout.release(release)
        content = (says or version).encode()
        index = index_line(File("says", 0o644, len(content), hashlib.sha256(content).hexdigest()))
        write_signed(path, version, index, size=len(content))
        (path / "says").write_bytes(content)
        (path / "says").chmod(0o644)
        venv = self.layout.venv(f"key-{version}")
        venv.mkdir(parents=True)
        (venv / ".complete").touch()
        (path / "venv").symlink_to(f"../../shared/venvs/key-{version}")
        return path

    def live(self) -> tuple[str | None, str | None]:
        """The target of `current`, and of the link to its venv."""
        links = (self.layout.current, self.layout.shared_venv)
        current, venv = (os.readlink(link) if link.is_symlink() else None for link in links)
        return current, venv

    def switch(self) -> Switch:
        return Switch(self.store, self.revocations, DISK, self.service, self.journal, CLOCK, self.processes)

    def preflight(self, config: AppConfig | None = None) -> Preflight:
        config = config or self.config
        return Preflight(self.storing(config), config, self.service, CLOCK, self.processes, renew)


async def renew(_attempt: Attempt, line: Lines) -> None:
    line("the venv runs")


def write_signed(into: Path, version: str, index: bytes, *, size: int) -> None:
    manifest = Manifest(
        app="app",
        version=version,
        created=1,
        expires=2,
        index_sha256=hashlib.sha256(index).hexdigest(),
        index_size=len(index),
        files=index.count(b"\n"),
        unpacked_size=size,
    )
    into.parent.mkdir(parents=True, exist_ok=True)
    write_metadata(into, manifest=manifest.to_bytes(), signature=b"s", index=[index], disk=DISK)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    journal = Journal(tmp_path / "journal.sqlite")
    await journal.open()
    made = App(tmp_path, journal)
    yield made
    for main in made.service.mains:
        main.dismiss()
    await journal.close()


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# --- unpack


class OneFile:
    """A bundle of one file, `says`, whose manifest and index were read."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def files(self) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        yield "says", len(self._content), iter([self._content])


def stage(app: App) -> None:
    index = index_line(File("says", 0o644, 2, hashlib.sha256(b"v2").hexdigest()))
    write_signed(app.layout.staged(V2), "v2", index, size=2)


async def test_unpack_publishes_the_staged_tree_and_its_undo_removes_it(app: App) -> None:
    await asyncio.to_thread(stage, app)
    step = Unpack(app.store, DISK, Limits(), RunRules("app", app.config, "app.toml"))
    await step.do(attempt(), Inputs(bundle=cast("Bundle", OneFile(b"v2"))), app.lines.append)
    release = app.layout.release(V2)
    assert (release / "says").read_text() == "v2"
    assert (release / "REVISION").read_text() == "v2\n"
    for _ in range(2):
        await step.undo(attempt(), app.lines.append)
        assert files(app.layout.path) == {"releases", ".staging"}


async def test_unpack_publishes_nothing_if_a_file_is_another_and_its_undo_removes_what_was_staged(
    app: App,
) -> None:
    await asyncio.to_thread(stage, app)
    step = Unpack(app.store, DISK, Limits(), RunRules("app", app.config, "app.toml"))
    with pytest.raises(Refused) as caught:
        await step.do(attempt(), Inputs(bundle=cast("Bundle", OneFile(b"xx"))), app.lines.append)
    assert caught.value.code is Code.CONTENT_MISMATCH
    assert not app.layout.release(V2).exists()
    await step.undo(attempt(), app.lines.append)
    assert files(app.layout.path) == {".staging"}


async def test_unpack_without_a_bundle_is_a_bug(app: App) -> None:
    with pytest.raises(RuntimeError):
        await Unpack(app.store, DISK, Limits(), RunRules("app", app.config, "app.toml")).do(
            attempt(), Inputs(), app.lines.append
        )


# --- link-shared


async def test_link_shared_makes_the_folders_and_links_and_its_undo_touches_nothing(app: App) -> None:
    config = app.configured(shared_paths=["var/uploads"], shared_files=[".env"])
    release = app.layout.release(V2)
    release.mkdir(parents=True)
    app.layout.shared.mkdir()
    (app.layout.shared / ".env").write_text("X=1")
    step = LinkShared(app.layout, config, DISK)
    await step.do(attempt(), Inputs(), app.lines.append)
    assert os.readlink(release / "var/uploads") == "../../../shared/var/uploads"
    assert (release / "var/uploads").is_dir()
    assert (release / ".env").read_text() == "X=1"
    before = files(app.layout.path)
    await step.undo(attempt(), app.lines.append)
    assert files(app.layout.path) == before


async def test_link_shared_fails_for_a_shared_file_that_is_missing(app: App) -> None:
    app.layout.release(V2).mkdir(parents=True)
    with pytest.raises(Failed, match=r"shared file \.env is not there") as caught:
        await LinkShared(app.layout, app.configured(shared_files=[".env"]), DISK).do(
            attempt(), Inputs(), app.lines.append
        )
    assert caught.value.code is Code.SHARED_FILE_MISSING


@pytest.mark.parametrize("shared", [{"shared_files": ["conf/.env"]}, {"shared_paths": ["conf/uploads"]}])
async def test_link_shared_names_the_shared_path_that_it_may_not_look_at(
    shared: dict[str, list[str]], as_nobody: Path
) -> None:
    layout = AppLayout(as_nobody)
    layout.release(V2).mkdir(parents=True)
    layout.shared.mkdir()
    (layout.shared / "conf").mkdir(mode=0)
    config = AppConfig.model_validate({"path": str(as_nobody), "user": "nobody", **shared})
    with pytest.raises(Failed, match=r"Could not look at .*/shared/conf/.*: Permission denied") as caught:
        await LinkShared(layout, config, Disk()).do(attempt(), Inputs(), print)
    assert caught.value.code is Code.DISK_ERROR
    assert "the agent's user" in caught.value.hint


# --- dependencies and cleanup


class ScriptedVenvs:
    """Venvs whose key is given. `failure` is raised instead of making one."""

    def __init__(self, layout: AppLayout, failure: Failed | None = None, *, lost: str = "") -> None:
        self.pruned: set[str] = set()
        self._layout = layout
        self._failure = failure
        self._lost = lost

    async def key(self, release: Path) -> str:
        return "key-v2"

    async def why_lost(self, release: Path) -> str:
        return self._lost

    async def ensure(self, key: str, release: Path, *, line: Lines) -> bool:
        line("installing")
        if self._failure:
            raise self._failure
        await asyncio.to_thread(self._layout.venv(key).mkdir, parents=True)
        return True

    def prune(self, keep: set[str]) -> None:
        self.pruned = keep


async def test_dependencies_notes_the_venv_and_links_it_and_its_undo_leaves_it_for_the_next(app: App) -> None:
    await asyncio.to_thread(write_signed, app.layout.release(V2), "v2", b"", size=0)
    await app.journal.begin(attempt(), manifest="", created=1, now=1)
    step = Dependencies(app.store, DISK, cast("Venvs", ScriptedVenvs(app.layout)), app.journal)
    await step.do(attempt(), Inputs(), app.lines.append)
    assert (app.layout.release(V2) / "venv").resolve() == app.layout.venv("key-v2").resolve()
    assert [one.venv for one in await app.journal.releases("app")] == ["key-v2"]
    assert app.lines == ["installing"]
    await step.undo(attempt(), app.lines.append)
    assert app.layout.venv("key-v2").is_dir()


async def test_a_rollback_to_a_release_that_lost_its_python_gets_a_new_venv(app: App) -> None:
    path = await asyncio.to_thread(app.release, V2, "v0")
    back = replace(attempt(), kind=Kind.ROLLBACK)
    runs = Dependencies(app.store, DISK, cast("Venvs", ScriptedVenvs(app.layout)), app.journal)
    await runs.renew(back, app.lines.append)
    lost = ScriptedVenvs(app.layout, lost="Python 3.13.0 is gone")
    step = Dependencies(app.store, DISK, cast("Venvs", lost), app.journal)
    await step.renew(attempt(), app.lines.append)
    assert os.readlink(path / "venv") == "../../shared/venvs/key-v0", "a deployment has just made its venv"
    await step.renew(back, app.lines.append)
    assert os.readlink(path / "venv") == "../../shared/venvs/key-v2"
    assert app.lines == ["Python 3.13.0 is gone: its venv is made anew", "installing"]


async def test_dependencies_that_fail_leave_no_link(app: App) -> None:
    app.layout.release(V2).mkdir(parents=True)
    failing = ScriptedVenvs(app.layout, Failed(Code.DEPENDENCIES_FAILED, "uv failed"))
    with pytest.raises(Failed):
        await Dependencies(app.store, DISK, cast("Venvs", failing), app.journal).do(attempt(), Inputs(), print)
    assert files(app.layout.release(V2)) == set()


async def test_cleanup_deletes_what_retention_does_not_keep_and_keeps_venvs_that_only_the_journal_knows(
    app: App,
) -> None:
    for release, version in ((V0, "v0"), (V1, "v1"), (V2, "v2")):
        await asyncio.to_thread(app.release, release, version)
    known = [
        Release(id=one, version="", standing=Standing.GOOD, created=1, venv=venv)
        for one, venv in ((V0, "gone"), (V1, "only-in-the-journal"), (V2, "key-v2"))
    ]
    await app.journal.adopt("app", known)
    app.layout.staging.mkdir()
    venvs = ScriptedVenvs(app.layout)
    retention = Retention("app", 1, app.store, DISK, app.journal, app.revocations)
    step = Cleanup(app.store, retention, cast("Venvs", venvs), app.journal)
    await step.do(attempt(), Inputs(), app.lines.append)
    assert sorted(os.listdir(app.layout.releases)) == [V1, V2]
    assert [one.id for one in await app.journal.releases("app")] == [V1, V2]
    assert venvs.pruned == {"only-in-the-journal", "key-v1", "key-v2"}
    await step.undo(attempt(), app.lines.append)


async def test_one_release_that_cannot_be_deleted_keeps_no_other_and_no_venv(app: App) -> None:
    """As where root ran Python in a release, and left a folder that only root can empty."""

    class Rooted(Disk):
        def remove(self, path: Path, *, trash: Path, op: str) -> None:
            if path.name == V0:
                raise Failed(Code.DISK_ERROR, f"Could not delete {trash}", why="Permission denied")
            super().remove(path, trash=trash, op=op)

    live, previous = "20261123020057Z", V2
    for release in (V0, V1, previous, live):
        await asyncio.to_thread(app.release, release, f"v{release}")
    known = [Release(id=one, version="v", standing=Standing.GOOD, created=1) for one in (V0, V1, previous, live)]
    await app.journal.adopt("app", known)
    app.layout.staging.mkdir()
    venvs = ScriptedVenvs(app.layout)
    retention = Retention("app", 1, app.store, Rooted(), app.journal, app.revocations)
    step = Cleanup(app.store, retention, cast("Venvs", venvs), app.journal)
    with pytest.raises(Failed, match="Could not delete"):
        await step.do(replace(attempt(), release=live, previous=previous), Inputs(), app.lines.append)
    assert sorted(os.listdir(app.layout.releases)) == [V0, previous, live]
    assert [one.id for one in await app.journal.releases("app")] == [V0, previous, live]
    assert venvs.pruned


# --- preflight


async def test_preflight_checks_a_candidate_and_dismisses_it(app: App) -> None:
    await asyncio.to_thread(app.release, V2, "v2")
    await app.preflight().do(attempt(), Inputs(), app.lines.append)
    assert app.service.words == ["reserve", "try v2"]
    assert await app.service.mains[0].wait()
    assert app.service.running() is None


async def test_preflight_fails_for_another_version_and_ends_the_candidate(app: App) -> None:
    await asyncio.to_thread(app.release, V2, "v2", says="v1")
    with pytest.raises(Failed) as caught:
        await app.preflight().do(attempt(), Inputs(), app.lines.append)
    assert caught.value.code is Code.APP_UNHEALTHY
    assert await app.service.mains[0].wait()


async def test_preflight_that_is_switched_off_only_reserves_the_socket(app: App) -> None:
    await asyncio.to_thread(app.release, V2, "v2")
    config = app.configured(preflight=False)
    await app.preflight(config).do(attempt(), Inputs(), app.lines.append)
    assert app.service.words == ["reserve"]


async def test_preflight_starts_nothing_while_the_port_is_occupied(app: App) -> None:
    await asyncio.to_thread(app.release, V2, "v2")
    app.service.refusal = Refused(Code.PORT_TAKEN, "The port is occupied")
    with pytest.raises(Refused):
        await app.preflight().do(attempt(), Inputs(), app.lines.append)
    assert app.service.words == ["reserve"]


async def test_the_undo_of_preflight_closes_the_socket_only_after_a_first_deployment(app: App) -> None:
    step = app.preflight()
    await step.undo(attempt(), app.lines.append)
    assert app.service.words == []
    await step.undo(attempt(previous=None), app.lines.append)
    assert app.service.words == ["stop"]
    await asyncio.to_thread(app.release, V1, "v1")
    await app.service.restart(await placed(app.store, V1))
    app.service.words.clear()
    await step.undo(attempt(previous=None), app.lines.append)
    assert app.service.words == []


# --- switch


@pytest.fixture
async def switched(app: App) -> App:
    """v2 was switched to; v0 and v1 were good before it, and v1 was live."""
    for release, version in ((V0, "v0"), (V1, "v1"), (V2, "v2")):
        await asyncio.to_thread(app.release, release, version)
    good = [Release(id=one, version="", standing=Standing.GOOD, created=1) for one in (V0, V1)]
    await app.journal.adopt("app", good)
    await app.switch().do(attempt(), Inputs(), app.lines.append)
    assert app.live() == (f"./releases/{V2}", "venvs/key-v2")
    return app


async def test_the_undo_of_switch_brings_back_what_was_live_and_asks_it(switched: App) -> None:
    await switched.switch().undo(attempt(), switched.lines.append)
    assert switched.live() == (f"./releases/{V1}", "venvs/key-v1")
    assert switched.service.words[0] == "restart v1"
    switched.service.words.clear()
    await switched.switch().undo(attempt(), switched.lines.append)
    assert switched.service.words == []


async def test_if_what_was_live_does_not_answer_the_newest_intact_release_comes_back(switched: App) -> None:
    await asyncio.to_thread((switched.layout.release(V1) / "says").write_text, "damaged")
    await switched.switch().undo(attempt(), switched.lines.append)
    assert switched.live() == (f"./releases/{V0}", "venvs/key-v0")
    assert len(switched.lines) == 1
    assert switched.lines[0].startswith(f"release {V1} does not come back (")
    assert switched.lines[0].endswith(f"; trying {V0}")


async def test_if_no_release_answers_the_undo_of_switch_is_stuck(switched: App) -> None:
    for release in (V0, V1):
        await asyncio.to_thread((switched.layout.release(release) / "says").write_text, "damaged")
    with pytest.raises(Stuck, match="No release of app answers") as caught:
        await switched.switch().undo(attempt(), switched.lines.append)
    assert caught.value.why.startswith(f"{V1} was brought back, and ")  # v0 is damaged, and was not tried


async def test_if_no_release_answers_what_was_live_stays_current_and_not_an_older_one(switched: App) -> None:
    switched.service.broken = True
    with pytest.raises(Stuck, match="No release of app answers") as caught:
        await switched.switch().undo(attempt(), switched.lines.append)
    assert switched.live() == (f"./releases/{V1}", "venvs/key-v1")
    assert switched.service.words == ["restart v1", "restart v0", "restart v1"]
    assert switched.lines[-1].endswith(f"; {V1} stays current")
    assert caught.value.why.startswith(f"{V1} was brought back, and ")
    assert "`pusher logs`" in caught.value.hint, "there is no output to look at"


async def test_while_the_host_is_going_down_no_older_release_is_tried(switched: App) -> None:
    switched.service.broken = switched.service.halting = True
    with pytest.raises(Stuck):
        await switched.switch().undo(attempt(), switched.lines.append)
    assert switched.live() == (f"./releases/{V1}", "venvs/key-v1")
    assert (switched.service.words, switched.lines) == (["restart v1"], [])


async def test_after_a_first_deployment_the_undo_of_switch_leaves_nothing_live(switched: App) -> None:
    for _ in range(2):
        await switched.switch().undo(attempt(previous=None), switched.lines.append)
        assert switched.live() == (None, None)
        assert switched.service.words[-1] == "stop"


# --- restart and confirm


async def test_restart_hands_on_what_it_started_and_its_undo_clears_the_way(app: App) -> None:
    await asyncio.to_thread(app.release, V2, "v2")
    step = Restart(app.store, app.service)
    made = await step.do(attempt(), Inputs(candidate_s=3), app.lines.append)
    assert made.started is app.service.running()
    assert made.candidate_s == 3
    await step.undo(attempt(), app.lines.append)
    assert app.service.words[-1] == "mend"
    assert app.service.running() is made.started


async def test_a_release_without_its_manifest_and_version_cannot_be_started(app: App) -> None:
    app.layout.release(V2).mkdir(parents=True)
    with pytest.raises(Failed, match=f"Release {V2} cannot be started") as caught:
        await Restart(app.store, app.service).do(attempt(), Inputs(), app.lines.append)
    assert caught.value.code is Code.RELEASE_DAMAGED


async def test_confirm_asks_what_was_started_and_not_whatever_runs_by_now(app: App) -> None:
    await asyncio.to_thread(app.release, V2, "v2")
    made = await Restart(app.store, app.service).do(attempt(), Inputs(), app.lines.append)
    step = Confirm(CLOCK)
    await step.do(attempt(), made, app.lines.append)
    await step.undo(attempt(), app.lines.append)
    await Restart(app.store, app.service).do(attempt(), Inputs(), app.lines.append)
    with pytest.raises(Failed) as caught:
        await step.do(attempt(), made, app.lines.append)
    assert caught.value.code is Code.APP_EXITED


async def test_confirm_without_a_restart_is_a_bug(app: App) -> None:
    with pytest.raises(RuntimeError):
        await Confirm(CLOCK).do(attempt(), Inputs(), app.lines.append)


class Pausing(SystemClock):
    """A clock whose pauses take no time, unless they are the last: then they never end."""

    def __init__(self, *, forever: bool = False) -> None:
        self.pauses: list[float] = []
        self._forever = forever

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(60 if self._forever else 0)


class Commands:
    """Runs the commands of health checks: `endings` are how they end, one after the other."""

    def __init__(self, *endings: str) -> None:
        self.endings = list(endings)
        self.ran: list[tuple[str, ...]] = []

    async def run(self, executable: Path, *arguments: str, line: Lines, **_: Any) -> str:
        self.ran.append((executable.name, *arguments))
        line("said so")
        return self.endings.pop(0)


def processes(app: App, clock: SystemClock, commands: Commands, **settings: Any) -> Processes:
    """The step where root's file has the process `worker`; `settings` are its own."""
    config = app.configured(processes={"worker": {"start": "tool run", **settings}})
    return Processes(app.storing(config), config, app.processes, cast(Any, commands), clock)


async def test_an_app_without_processes_waits_for_none(app: App) -> None:
    await asyncio.to_thread(app.release, V2, "v2")
    clock = Pausing(forever=True)
    await processes(app, clock, Commands()).do(attempt(), Inputs(), app.lines.append)
    assert (app.processes.ran, clock.pauses) == (["v2"], [])


async def test_processes_are_watched_for_2_s_at_least_and_checked_until_they_are_well(app: App) -> None:
    path = await asyncio.to_thread(app.release, V2, "v2")
    await asyncio.to_thread(add_tool, path)
    app.processes.started = {"worker": SimulatedMain(Placed(V2, "v2", path), path)}
    clock, commands = Pausing(), Commands("exit code 1", "")
    step = processes(app, clock, commands, health=["tool", "ping me"])
    await step.do(attempt(), Inputs(), app.lines.append)
    assert commands.ran == [("tool", "ping me")] * 2
    assert clock.pauses == [0.5, 2.0]


@pytest.mark.parametrize(("other", "health"), [("beat", 0), ("worker-2", 1)])
async def test_the_health_of_a_process_that_does_not_run_here_is_not_asked_for(
    app: App, other: str, health: int
) -> None:
    """Root has disabled it, or taken it out of the file since the release was deployed."""
    path = await asyncio.to_thread(app.release, V2, "v2")
    await asyncio.to_thread(add_tool, path)
    app.processes.started = {other: SimulatedMain(Placed(V2, "v2", path), path)}
    commands = Commands("")
    step = processes(app, Pausing(), commands, health=["tool", "ping"], instances=2)
    await step.do(attempt(), Inputs(), app.lines.append)
    assert len(commands.ran) == health


async def test_a_process_that_ends_fails_the_step_at_once(app: App) -> None:
    path = await asyncio.to_thread(app.release, V2, "v2")
    main = SimulatedMain(Placed(V2, "v2", path), path)
    app.processes.started = {"worker": main}
    main.dismiss()
    with pytest.raises(Failed, match="The process worker of release") as caught:
        await processes(app, Pausing(forever=True), Commands()).do(attempt(), Inputs(), app.lines.append)
    assert (caught.value.code, caught.value.why) == (Code.APP_EXITED, "exit code 0")


WORKER_LOG = f"""\
worker is starting
Traceback (most recent call last):
  File "/opt/demo/releases/{V2}/work.py", line 3, in <module>
    import packaging
ModuleNotFoundError: No module named 'packaging'
demo-worker.service: Main process exited, code=exited, status=1/FAILURE
"""
BEAT_LOG = """\
[2026-11-28 03:56:51,602: WARNING/MainProcess] OSError
[2026-11-28 03:56:51,602: WARNING/MainProcess] :
[2026-11-28 03:56:51,602: WARNING/MainProcess] [Errno 30] Read-only file system: 'celerybeat-schedule'
demo-worker.service: Main process exited, code=exited, status=1/FAILURE
demo-worker.service: Failed with result 'exit-code'.
"""


@pytest.mark.parametrize(
    ("written", "why", "hint"),
    [
        (
            WORKER_LOG,
            "exit code 0: ModuleNotFoundError: No module named 'packaging' (work.py:3)",
            "Its last lines are below. Is packaging in the release, or among its dependencies?",
        ),
        (
            BEAT_LOG,
            "exit code 0",
            "Its last lines are below. The app cannot write to its release. A folder that it writes to belongs "
            "into `shared_paths` in the app's file: it lies in shared/ in the app's folder, and every release has "
            "it",
        ),
        ("", "exit code 0", "It wrote nothing"),
    ],
)
async def test_a_process_that_ends_is_told_with_the_cause_that_it_wrote(
    app: App, written: str, why: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tail(self: SimulatedMain) -> str:
        return written

    monkeypatch.setattr(SimulatedMain, "tail", tail)
    path = await asyncio.to_thread(app.release, V2, "v2")
    main = SimulatedMain(Placed(V2, "v2", path), path)
    app.processes.started = {"worker": main}
    main.dismiss()
    with pytest.raises(Failed) as caught:
        await processes(app, Pausing(forever=True), Commands()).do(attempt(), Inputs(), app.lines.append)
    assert (caught.value.why, caught.value.hint, caught.value.output) == (why, hint, written)


async def test_the_return_lets_the_processes_run_what_comes_back_and_bears_their_failure(
    app: App,
) -> None:
    for release, version in ((V1, "v1"), (V2, "v2")):
        await asyncio.to_thread(app.release, release, version)
    step = app.switch()
    await step.do(attempt(), Inputs(), app.lines.append)
    app.processes.refusal = Failed(Code.SERVICE_FAILED, "worker did not start")
    await step.undo(attempt(), app.lines.append)
    assert app.processes.ran == ["v1"]
    assert "worker did not start" in app.lines[-1]
    await app.service.stop()


async def test_after_a_first_deployment_that_failed_no_process_runs(app: App) -> None:
    await asyncio.to_thread(app.release, V2, "v2")
    step = app.switch()
    await step.do(attempt(previous=None), Inputs(), app.lines.append)
    await step.undo(attempt(previous=None), app.lines.append)
    assert app.processes.ran == [""]


async def test_a_release_without_the_program_of_a_process_fails_before_anything_is_started(app: App) -> None:
    await asyncio.to_thread(app.release, V2, "v2")
    config = app.configured(processes={"worker": {"start": "celery"}})
    with pytest.raises(Failed, match="celery") as caught:
        await app.preflight(config).do(attempt(), Inputs(), app.lines.append)
    assert (caught.value.code, app.service.words) == (Code.START_NOT_FOUND, [])


def add_tool(release: Path) -> None:
    tool = release / "venv/bin/tool"
    tool.parent.mkdir()
    tool.touch(0o755)
