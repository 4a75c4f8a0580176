"""Retention: how many releases of an app stay on disk.

Invariant: only the releases that `surplus` names are deleted, never the live one or where a rollback goes.
"""

import asyncio
from dataclasses import dataclass

from agent.core.releases import rollback_targets, surplus
from agent.host.releases.revocations import Revocations
from agent.host.releases.store import ReleaseStore
from agent.host.releases.unpack import check_room
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Failed, Refused


@dataclass(frozen=True, slots=True)
class Retention:
    """The retention of one app; `keep` is its `keep_releases`."""

    app: str
    keep: int
    store: ReleaseStore
    disk: Disk
    journal: Journal
    revocations: Revocations

    async def delete_surplus(self, *, live: str | None, previous: str | None = None) -> None:
        """Delete the releases that retention does not keep; `previous` was live until now.

        Raises: Failed, for the first that cannot be deleted, when the others are; it is tried again the next time.
        Refused, if it is unknown where a rollback would go: then nothing is deleted.
        """
        layout = self.store.layout
        releases = await self.journal.releases(self.app)
        targets = rollback_targets(releases, live=live)
        _, revoked = await asyncio.to_thread(self.revocations.until_allowed, targets, sure=True)
        problems = []
        for one in surplus(releases, live=live, keep=self.keep, revoked=revoked, previous=previous):
            path, trash = layout.release(one.id), layout.trash(one.id)
            try:
                await asyncio.to_thread(self.disk.remove, path, trash=trash, op="cleanup.release")
                await self.journal.forget(self.app, one.id)
            except Failed as problem:
                problems.append(problem)  # what only root can delete must not keep all others for ever
        if problems:
            raise problems[0]

    async def make_room(self, *, size: int, files: int) -> None:
        """Delete the surplus now, if a release of so many bytes and files would not fit. Raises: Failed, Refused.

        The clean-up comes only after a success. Releases that fail pile up until then, and may be what fills the
        disk.
        """
        try:
            await asyncio.to_thread(check_room, self.store.layout.path, size=size, files=files)
        except Refused:
            await self.delete_surplus(live=await asyncio.to_thread(self.store.live))
        except Failed:
            return  # the app has no folder yet
