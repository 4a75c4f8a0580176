"""The step `link-shared`: the shared paths and files of the app become links of the release.

Invariant: only the release changes, so undoing `unpack` undoes this step as well. A shared folder that was made
stays.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout, shared_target
from agent.core.plan import Attempt
from agent.deploy.steps.step import Inputs
from agent.host.ports import Lines
from agent.host.releases.shared import check_target
from agent.host.storage.disk import Disk
from agent.host.storage.errors import explained
from pusher.wire import Code, Failed


@dataclass(frozen=True, slots=True)
class LinkShared:
    """Makes the links, and the shared folders that are missing. A missing shared file is a failure."""

    layout: AppLayout
    config: AppConfig
    disk: Disk

    async def do(self, attempt: Attempt, inputs: Inputs, line: Lines) -> None:
        await asyncio.to_thread(self._link, self.layout.release(attempt.release))

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        return

    def _link(self, release: Path) -> None:
        for name in self.config.shared_files:
            self._check_file(name)
        for name in self.config.shared_paths:
            self._make_folder(self.layout.shared / name)
        for name in self.config.shared:
            self.disk.make_folders((release / name).parent, op="shared.folder")
            if os.path.lexists(release / name):
                # What only kept the folder in git: nothing else in a bundle may have the name of a shared path.
                self.disk.discard(release / name, op="shared.placeholder")
            self.disk.link(release / name, shared_target(name), op="shared.link")
        above = {folder for name in self.config.shared for folder in PurePosixPath(name).parents}
        for folder in sorted(above, reverse=True):
            self.disk.sync_folder(release / folder, op="shared.sync")

    def _check_file(self, name: str) -> None:
        path = self.layout.shared / name
        with explained("look at", path):
            there = path.is_file()
        if not there:
            raise Failed(
                Code.SHARED_FILE_MISSING,
                f"The shared file {name} is not there",
                why=f"{path} does not exist, or is no file",
                hint="Put it there (it is kept from release to release), or take it out of shared_files",
            )

    def _make_folder(self, folder: Path) -> None:
        """Make a shared folder durably: no later step would replace one that a power cut loses.

        Only the app and the agent can enter it: within `shared`, it gets the app's group. (Setting its mode later
        would remove the setgid bit, which the agent may not set again.)
        """
        with explained("look at", folder):
            there, link, exists = folder.is_dir(), folder.is_symlink(), folder.exists()
        if there:
            return
        if exists:
            raise Failed(
                Code.SHARED_FILE_MISSING,
                f"The shared folder {folder.name} is a file",
                why=f"{folder} is no folder, and shared_paths names folders",
                hint="Move it away, or name it in shared_files",
            )
        if link:
            check_target(folder)
            return
        self.disk.make_folders(folder, op="shared.folder", most=0o770)
        while folder != self.layout.path:
            folder = folder.parent
            self.disk.sync_folder(folder, op="shared.sync-made")
