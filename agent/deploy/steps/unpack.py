"""The step `unpack`: the staged manifest and index and the arriving files become `releases/<id>`.

Invariant: the release appears whole and synced, by one rename, or not at all.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from agent.core.plan import Attempt
from agent.core.run import RunRules
from agent.deploy.steps.step import Inputs
from agent.host.ports import Lines
from agent.host.releases.run_files import read_section, stage_run
from agent.host.releases.store import ReleaseStore
from agent.host.releases.unpack import unpack
from agent.host.storage.disk import Disk
from pusher.wire import Limits, WireError


@dataclass(frozen=True, slots=True)
class Unpack:
    """Builds the tree in staging, with how it runs, then publishes it."""

    store: ReleaseStore
    disk: Disk
    limits: Limits
    rules: RunRules

    async def do(self, attempt: Attempt, inputs: Inputs, line: Lines) -> None:
        layout = self.store.layout
        if inputs.bundle is None:
            raise RuntimeError("only a deploy unpacks, and it comes with a bundle")
        staged = layout.staged(attempt.release)
        for sentence in await asyncio.to_thread(self._stage_run, staged):
            line(sentence)
        await asyncio.to_thread(
            unpack,
            inputs.bundle,
            into=staged,
            version=attempt.version,
            releases=self.store.folders,
            disk=self.disk,
            limits=self.limits,
        )
        await asyncio.to_thread(self._publish, staged, layout.release(attempt.release))

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        layout = self.store.layout
        trash = layout.trash(attempt.release)
        for path in (layout.staged(attempt.release), layout.release(attempt.release)):
            await asyncio.to_thread(self.disk.remove, path, trash=trash, op="unpack.remove")

    def _stage_run(self, staged: Path) -> list[str]:
        """Decide how the release runs; where the host says otherwise than the release, a sentence each."""
        try:
            section = read_section(staged)
        except (OSError, WireError) as error:
            raise RuntimeError(f"the manifest of {staged} was verified, and cannot be read: {error}") from error
        stage_run(staged, self.rules.decide(section), disk=self.disk)
        return self.rules.overruled(section)

    def _publish(self, staged: Path, release: Path) -> None:
        self.disk.make_folder(release.parent, op="release.folder")
        self.disk.rename(staged, release, op="release.publish")
        self.disk.sync_folder(release.parent, op="release.sync")
        self.disk.sync_folder(staged.parent, op="release.sync-staging")
