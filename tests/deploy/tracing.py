"""Deployments of recorded steps and hooks, cut somewhere, and what was done as one line of text.

Executor, recovery, hooks, journal (SQLite), plans and phases are the real ones. A cut is a word of the trace and
what happens there: `fail` (it fails), `stop` (the agent is told to stop meanwhile), `stop-after` (at its end),
`halt` (it fails because the host is going down) or `die` (the agent dies). After the last two, the next agent does
what stands behind `|`. The line ends with how the deployment ended, and
which release is live then.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from agent.core.layout import AppLayout
from agent.core.plan import HOOK_NAMES, Attempt, Kind, Step
from agent.core.releases import Release, Standing
from agent.core.run import Run
from agent.deploy.deployment import Deployment
from agent.deploy.executor import Executor
from agent.deploy.hooks import Hooks
from agent.deploy.lock import DeploymentLock
from agent.deploy.recovery import AppRecovery
from agent.deploy.status_line import StatusLine
from agent.deploy.steps.step import Inputs
from agent.host.clock import SystemClock
from agent.host.ports import Lines, Service
from agent.host.releases.store import ReleaseStore
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Code, Failed
from tests.crash.simulated_service import SimulatedProcesses

OLD, NEW = "20261123020000Z", "20261123020055Z"
ATTEMPTS = {
    Kind.DEPLOY: Attempt(
        id=f"app-{NEW}", app="app", kind=Kind.DEPLOY, release=NEW, version="v2", previous=OLD, by="alice"
    ),
    Kind.ROLLBACK: Attempt(
        id="app-20261123030000Z",
        app="app",
        kind=Kind.ROLLBACK,
        release=OLD,
        version="v1",
        previous=NEW,
        by="alice",
    ),
}


async def trace(kind: Kind, cuts: Sequence[str], folder: Path, *, hooks: bool = False) -> str:
    """Carry out a deployment with these cuts (`confirm:fail`); the whole line. With `hooks` each hook exists."""
    place = await asyncio.to_thread(Place, folder, kind, dict(cut.rsplit(":", 1) for cut in cuts), hooks=hooks)
    await place.journal.open()
    try:
        await place.carry_out()
        return f"{' '.join(cuts)} -> {' '.join(place.words)} => {await place.end()}"
    finally:
        await place.journal.close()


class Died(BaseException):
    """The agent is dead: nothing in it catches this."""


class Place:
    """An app with one old release (and a new one, for a rollback), and what is done to it."""

    def __init__(self, folder: Path, kind: Kind, cuts: dict[str, str], *, hooks: bool) -> None:
        self.words: list[str] = []
        self.attempt = ATTEMPTS[kind]
        self.layout = AppLayout(folder / "app")
        self.store = ReleaseStore(self.layout, Run(release="migrate") if hooks else Run())
        self._builds = hooks
        self.journal = RecordedJournal(folder / "journal.sqlite", self)
        self._cuts = cuts
        self._halting = False
        self._deployment: Deployment | None = None
        self._hooks = folder / "hooks"
        for release in {OLD, self.attempt.previous or OLD}:
            self.layout.release(release).mkdir(parents=True)
        self.point_at(self.attempt.previous)
        for name in HOOK_NAMES if hooks else ():
            self._hooks.mkdir(exist_ok=True)
            (self._hooks / name).write_text("#!/bin/sh\n")
            (self._hooks / name).chmod(0o755)

    async def carry_out(self) -> None:
        """The deployment, by as many agents as it takes."""
        known = [
            Release(id=path.name, version="", standing=Standing.GOOD, created=1)
            for path in await asyncio.to_thread(self.store.folders)
        ]
        await self.journal.adopt("app", known)
        await self.journal.begin(self.attempt, manifest="", created=2, now=2)
        executor = self._executor()
        self._deployment = executor.begin(self.attempt)
        try:
            await executor.carry_out(self._deployment)
        except Died:
            await self._restart_agent()
        if self._halting and self._deployment.outcome is None:
            self._halting = False
            await self._restart_agent()

    async def end(self) -> str:
        """How it ended, and what is live."""
        record = await self.journal.deployment(self.attempt.id)
        assert record is not None
        ended = record.phase.value if record.finished else f"unfinished: {record.phase.value}"
        names = {OLD: "old", NEW: "new", None: "nothing"}
        return f"{ended}, {names[await asyncio.to_thread(self.store.live)]}"

    async def at(self, word: str) -> None:
        """Record a word, and cut there if that is wanted. Raises: Failed, Died."""
        how = self._cuts.pop(word, "")
        self.words.append(f"{word}:{how}" if how else word)
        self._halting |= how == "halt"
        if how in ("fail", "halt"):
            raise Failed(Code.INTERNAL, f"{word} fails")
        if how == "die":
            raise Died
        if how in ("stop", "stop-after"):
            assert self._deployment is not None
            self._deployment.interrupted.set()
        if how == "stop":
            for _ in range(20):  # what is interruptible is cancelled here
                await asyncio.sleep(0)

    async def after(self, word: str) -> None:
        """The same, but recorded only if it is cut there."""
        if word in self._cuts:
            await self.at(word)

    def point_at(self, release: str | None) -> None:
        """Make a release live."""
        self.layout.current.unlink(missing_ok=True)
        if release is not None:
            self.layout.current.symlink_to(f"./releases/{release}")

    async def _restart_agent(self) -> None:
        self.words.append("|")
        recovery = AppRecovery(
            "app",
            executor=self._executor(),
            lock=DeploymentLock("app"),
            store=self.store,
            disk=Disk(),
            service=cast("Service", RunningService()),
            processes=SimulatedProcesses(),
            journal=self.journal,
            clock=SystemClock(),
            status_line=StatusLine("app", lambda: None),
        )
        try:
            await recovery.recover()
        except Died:
            await self._restart_agent()
        assert not recovery.trouble

    async def _build(self, deployment: Deployment) -> None:
        if self._builds:
            await self.at("build")

    def _executor(self) -> Executor:
        clock = SystemClock()
        steps = {step: RecordedStep(step, self) for step in Step}
        hooks = Hooks(self.store, self._hooks, RecordedRunner(self), clock)
        return Executor(
            steps=steps,
            hooks=hooks,
            build=self._build,
            store=self.store,
            journal=self.journal,
            clock=clock,
            ending=self._ending,
        )

    async def _ending(self) -> bool:
        return self._halting


class RecordedStep:
    """A step that changes only what recovery reads: the folder of the release, and the link `current`."""

    def __init__(self, step: Step, place: Place) -> None:
        self._step = step
        self._place = place

    async def do(self, attempt: Attempt, inputs: Inputs, line: Lines) -> None:
        await self._place.at(self._step.value)
        if self._step is Step.UNPACK:
            await asyncio.to_thread(self._place.layout.release(attempt.release).mkdir, parents=True)
        if self._step is Step.SWITCH:
            await asyncio.to_thread(self._place.point_at, attempt.release)
            await self._place.after("switched")

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        await self._place.at(f"{self._step.value}:undo")
        if self._step is Step.UNPACK:
            release = self._place.layout.release(attempt.release)
            await asyncio.to_thread(Disk().discard, release, op="unpack.remove")
        if self._step is Step.SWITCH:
            await asyncio.to_thread(self._place.point_at, attempt.previous)
            await self._place.after("returned")


class RecordedRunner:
    """Runs hooks, as far as a trace shows."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def run(
        self, executable: Path, *_arguments: str, folder: Path, environment: Mapping[str, str], **_: Any
    ) -> str:
        try:
            # The release command is run by a shell.
            await self._place.at("release" if executable.name == "sh" else executable.name)
        except Failed:
            return "exit code 1"
        return ""


class RecordedJournal(Journal):
    """The real journal. The commit is a word of the trace, and can be cut."""

    def __init__(self, path: Path, place: Place) -> None:
        super().__init__(path)
        self._place = place

    async def stand(self, *arguments: Any, **options: Any) -> None:
        await self._place.at("commit")
        await super().stand(*arguments, **options)


class RunningService:
    """A service whose app runs."""

    def running(self) -> object:
        return self
