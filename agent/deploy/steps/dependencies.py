"""The step `dependencies`: the release gets its venv, found by its key or made, and a list of what is in it.

Invariant: a venv that exists is never changed. One that no release needs goes at the next clean-up.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from agent.core.layout import venv_target
from agent.core.plan import Attempt, Kind
from agent.deploy.steps.step import Inputs
from agent.host.dependencies.venvs import Venvs
from agent.host.ports import Lines
from agent.host.releases.sbom import write_sbom
from agent.host.releases.store import ReleaseStore
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Ensures the venv, notes its key in the journal, and links it into the release."""

    store: ReleaseStore
    disk: Disk
    venvs: Venvs
    journal: Journal

    async def do(self, attempt: Attempt, inputs: Inputs, line: Lines) -> None:
        release = self.store.layout.release(attempt.release)
        key = await self.venvs.key(release)
        await self._give(attempt, key, line)

    async def renew(self, attempt: Attempt, line: Lines) -> None:
        """Before a rollback: make the venv anew, if its Python is gone. The release gets a link to the new one.

        Raises: as `do`.
        """
        if attempt.kind is not Kind.ROLLBACK:
            return
        release = self.store.layout.release(attempt.release)
        if why := await self.venvs.why_lost(release):
            line(f"{why}: its venv is made anew")
            await self._give(attempt, await self.venvs.key(release), line)

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        return

    async def _give(self, attempt: Attempt, key: str, line: Lines) -> None:
        release = self.store.layout.release(attempt.release)
        await self.venvs.ensure(key, release, line=line)
        await self.journal.set_venv(attempt.app, attempt.release, key)
        await asyncio.to_thread(self._link, release, key)

    def _link(self, release: Path, key: str) -> None:
        write_sbom(release, venv=self.store.layout.venv(key), disk=self.disk)
        self.disk.flip(release / "venv", venv_target(key), op="venv.link")
