"""The steps of a deployment: each does one thing and knows how to take it back.

Invariant: `do` is tried once and may stop anywhere; `undo` may be called after any part of `do`, or none of
it, and again after itself. Nothing live changes before `Switch`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from agent.core.config import AppConfig
from agent.core.layout import AppLayout, current_target, live_venv_target, shared_target, venv_target
from agent.core.plan import Attempt
from agent.core.releases import rollback_targets, surplus
from agent.host.ports import Bundle, Clock, Lines, Placed, Running, Service
from agent.host.releases.store import ReleaseStore
from agent.host.releases.unpack import unpack
from agent.host.releases.venvs import Venvs
from agent.host.run import health
from agent.host.storage.disk import Disk
from agent.host.storage.errors import explained
from agent.host.storage.journal import Journal
from pusher.wire import Code, Failed, Limits, Problem, Stuck, WireError


class Doable(Protocol):
    """One step of a plan. `line` takes what it wants people to see."""

    async def do(self, attempt: Attempt, line: Lines) -> None:
        """Do it. Raises: Refused, Failed."""
        ...

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        """Take it back, whatever of it was done. Raises: Failed, Stuck."""
        ...


@dataclass(frozen=True, slots=True)
class Unpack:
    """The staged papers and the arriving files become `releases/<id>`, whole and synced, or nothing."""

    store: ReleaseStore
    disk: Disk
    limits: Limits
    bundle: Bundle | None = None
    body_read: Callable[[], None] = lambda: None

    async def do(self, attempt: Attempt, line: Lines) -> None:
        """Build the tree in staging, then publish it by one rename."""
        layout = self.store.layout
        if self.bundle is None:
            raise RuntimeError("only a deploy unpacks, and it comes with a bundle")
        staged = layout.staged(attempt.release)
        await asyncio.to_thread(
            unpack,
            self.bundle,
            into=staged,
            version=attempt.version,
            kept=self.store.kept,
            disk=self.disk,
            limits=self.limits,
        )
        self.body_read()
        await asyncio.to_thread(self._publish, staged, layout.release(attempt.release))

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        layout = self.store.layout
        trash = layout.trash(attempt.release)
        for path in (layout.staged(attempt.release), layout.release(attempt.release)):
            await asyncio.to_thread(self.disk.remove, path, trash=trash, op="unpack.remove")

    def _publish(self, staged: Path, release: Path) -> None:
        self.disk.make_folder(release.parent, op="release.folder")
        self.disk.rename(staged, release, op="release.publish")
        self.disk.sync_folder(release.parent, op="release.sync")
        self.disk.sync_folder(staged.parent, op="release.sync-staging")


@dataclass(frozen=True, slots=True)
class LinkShared:
    """The shared paths of the app become links of the release. Undone with the release they lie in."""

    layout: AppLayout
    config: AppConfig
    disk: Disk

    async def do(self, attempt: Attempt, line: Lines) -> None:
        await asyncio.to_thread(self._link, self.layout.release(attempt.release))

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        return

    def _link(self, release: Path) -> None:
        for name in self.config.shared_files:
            wanted = self.layout.shared / name
            with explained("look at", wanted):
                there = wanted.is_file()
            if not there:
                raise Failed(
                    Code.SHARED_FILE_MISSING,
                    f"The shared file {name} is not there",
                    why=f"{wanted} does not exist, or is no file",
                    hint="Put it there (it is kept from release to release), or take it out of shared_files",
                )
        for name in self.config.shared_paths:
            self._make_shared(self.layout.shared / name)
        for name in self.config.shared:
            self.disk.make_folders((release / name).parent, op="shared.folder")
            self.disk.link(release / name, shared_target(name), op="shared.link")
        above = {folder for name in self.config.shared for folder in PurePosixPath(name).parents}
        for folder in sorted(above, reverse=True):
            self.disk.sync_folder(release / folder, op="shared.sync")

    def _make_shared(self, folder: Path) -> None:
        """The folder that a shared path leads to, in whose place nobody would make another one later."""
        with explained("look at", folder):
            there = folder.is_dir()
        if there:
            return
        self.disk.make_folders(folder, op="shared.folder")
        while folder != self.layout.path:
            folder = folder.parent
            self.disk.sync_folder(folder, op="shared.sync-made")


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The release gets its venv: found by its key, or made. An unneeded one goes at the next clean-up."""

    store: ReleaseStore
    disk: Disk
    venvs: Venvs
    journal: Journal

    async def do(self, attempt: Attempt, line: Lines) -> None:
        release = self.store.layout.release(attempt.release)
        key = await self.venvs.key(release)
        await self.venvs.ensure(key, release, line=line)
        await self.journal.set_venv(attempt.app, attempt.release, key)
        await asyncio.to_thread(self._link, release, key)

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        return

    def _link(self, release: Path, key: str) -> None:
        self.disk.link(release / "venv", venv_target(key), op="venv.link")
        self.disk.sync_folder(release, op="venv.sync")


@dataclass(frozen=True, slots=True)
class Preflight:
    """The release is tried out beside the live one, on a private socket. Nothing live has changed yet."""

    store: ReleaseStore
    config: AppConfig
    service: Service
    clock: Clock

    async def do(self, attempt: Attempt, line: Lines) -> None:
        placed = await _placed(self.store, attempt.release)
        await self.service.reserve()
        if not self.config.preflight:
            return
        candidate = await self.service.try_out(placed)
        try:
            await health.check(
                candidate,
                self.config.health,
                version=placed.version,
                deadline_s=self.config.health.deadline_s,
                clock=self.clock,
            )
        except BaseException:
            await candidate.end()
            raise
        candidate.dismiss()

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        """The very first deployment leaves nothing listening. What runs though its folder is gone is not ended."""
        if attempt.previous is None and self.service.running() is None:
            await self.service.stop()


@dataclass(frozen=True, slots=True)
class Switch:
    """`current` points at the release. Its undo brings back what was live, whatever it takes."""

    store: ReleaseStore
    config: AppConfig
    disk: Disk
    service: Service
    journal: Journal
    clock: Clock

    async def do(self, attempt: Attempt, line: Lines) -> None:
        await self._point_at(attempt.release)

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        """The previous release answers again; if it cannot, the newest intact good one before it.

        Raises: Stuck, if none does.
        """
        if attempt.previous is None:
            await asyncio.to_thread(self._point_at_nothing)
            await self.service.stop()
            return
        problem = await self._bring_back(attempt.previous)
        tried = attempt.previous
        for other in rollback_targets(await self.journal.releases(attempt.app), live=attempt.previous):
            if problem is None:
                return
            if other.id != attempt.release and not await asyncio.to_thread(self.store.intact, other.id):
                line(f"release {tried} does not come back ({problem}); trying {other.id}")
                tried = other.id
                problem = await self._bring_back(tried)
        if problem is not None:
            raise Stuck(
                Code.NOT_UNDONE,
                f"No release of {attempt.app} answers any more",
                why=f"{tried} was brought back, and {problem}",
                hint="Look at the output below, mend what the app needs, then deploy or roll back --to a release",
                output=problem.output,
            )

    async def _bring_back(self, release: str) -> Problem | None:
        try:
            placed = await _placed(self.store, release)
            if await asyncio.to_thread(self.store.live) != release:
                await self._point_at(release)
            running = self.service.running()
            if running is None or running.placed.release != release:
                running = await self.service.restart(placed)
            await health.check(
                running,
                self.config.health,
                version=placed.version,
                deadline_s=self.config.health.deadline_s,
                clock=self.clock,
            )
        except Problem as problem:
            return problem
        return None

    async def _point_at(self, release: str) -> None:
        layout = self.store.layout
        venv = await asyncio.to_thread(self.store.venv, release)
        await asyncio.to_thread(self.disk.flip, layout.current, current_target(release), op="switch.current")
        if venv:
            await asyncio.to_thread(self.disk.flip, layout.shared_venv, live_venv_target(venv), op="switch.venv")

    def _point_at_nothing(self) -> None:
        layout = self.store.layout
        for link in (layout.current, layout.shared_venv):
            self.disk.unlink(link, op="switch.unlink")


@dataclass(slots=True)
class Restart:
    """The release serves the public socket. What served before gets `drain_s` to finish."""

    store: ReleaseStore
    service: Service
    started: Running | None = None

    async def do(self, attempt: Attempt, line: Lines) -> None:
        """Afterwards `started` is what this very restart started, alive or not."""
        self.started = await self.service.restart(await _placed(self.store, attempt.release))

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        """Only clears the way: what was live comes back with the link (`Switch.undo`)."""
        await self.service.mend()


@dataclass(frozen=True, slots=True)
class Confirm:
    """The release answers on the public address, and goes on doing so for `bake_s`.

    Asked is the main process that `restart` started. Whatever runs by now would not do: a release that ends is
    started again by its service, and might answer before it ends again.
    """

    config: AppConfig
    restart: Restart
    clock: Clock

    async def do(self, attempt: Attempt, line: Lines) -> None:
        if self.restart.started is None:
            raise RuntimeError("a release is confirmed after its restart")
        running, wanted = self.restart.started, self.config.health
        await health.check(
            running, wanted, version=attempt.version, deadline_s=wanted.deadline_s, clock=self.clock
        )
        await health.watch(running, wanted, version=attempt.version, seconds=wanted.bake_s, clock=self.clock)

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        return


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Retention, after the commit. It fails nothing, and what it leaves goes next time."""

    store: ReleaseStore
    config: AppConfig
    disk: Disk
    venvs: Venvs
    journal: Journal

    async def do(self, attempt: Attempt, line: Lines) -> None:
        keep = self.config.keep_releases
        await let_go(
            attempt.app, live=attempt.release, keep=keep, store=self.store, disk=self.disk, journal=self.journal
        )
        # Both opinions: of a link that cannot be read just now, the journal still knows where it leads.
        known = {one.venv for one in await self.journal.releases(attempt.app)}
        await asyncio.to_thread(self.venvs.prune, known | await asyncio.to_thread(self.store.venvs))
        await self.journal.trim(attempt.app)

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        return


async def let_go(
    app: str, *, live: str | None, keep: int, store: ReleaseStore, disk: Disk, journal: Journal
) -> None:
    """Retention: delete the releases that `surplus` names. Raises: Failed; what is left goes the next time."""
    layout = store.layout
    for one in surplus(await journal.releases(app), live=live, keep=keep):
        path, trash = layout.release(one.id), layout.trash(one.id)
        await asyncio.to_thread(disk.remove, path, trash=trash, op="cleanup.release")
        await journal.forget(app, one.id)


async def _placed(store: ReleaseStore, release: str) -> Placed:
    try:
        return await asyncio.to_thread(store.placed, release)
    except (OSError, WireError) as error:
        raise Failed(
            Code.RELEASE_DAMAGED,
            f"Release {release} cannot be started",
            why=f"its papers are damaged: {error}",
            hint="Deploy again, or roll back --to another release",
        ) from error
