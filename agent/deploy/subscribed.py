"""What is known here of an app that follows a channel: the facts that its decision needs.

Invariant: the newest document that was accepted is in the journal before anything follows from it.
"""

import asyncio

from agent.core.channel import Facts, Mark, Past, TrustedChannel, accept
from agent.core.phases import Phase
from agent.deploy.lock import DeploymentLock
from agent.host.ports import Clock
from agent.host.releases.store import ReleaseStore
from agent.host.storage.journal import Journal, Record
from pusher.wire.report import Named


class Subscribed:
    """The facts of one app, on the host with this name."""

    def __init__(
        self, app: str, *, host: str, lock: DeploymentLock, store: ReleaseStore, journal: Journal, clock: Clock
    ) -> None:
        self._app = app
        self._host = host
        self._lock = lock
        self._store = store
        self._journal = journal
        self._clock = clock

    async def accept(self, trusted: TrustedChannel, *, channel: str) -> Mark:
        """The mark of a document of this channel, durably the newest one from now on.

        Raises: Refused, as `agent.core.channel.accept`; Failed, if the journal cannot be written.
        """
        before = await self._journal.mark(self._app, channel)
        newest = await self._journal.history(self._app, most=1)
        mark = accept(
            trusted,
            app=self._app,
            channel=channel,
            mark=before,
            now=self._clock.now(),
            newest_deployment=newest[0].attempt.id if newest else "",
        )
        if mark != before:
            await self._journal.set_mark(self._app, channel, mark)
        return mark

    async def live(self) -> Named | None:
        """The release that is live."""
        release = await asyncio.to_thread(self._store.live)
        known = {one.id: one for one in await self._journal.releases(self._app)}
        manifest = await asyncio.to_thread(self._store.manifest, release) if release else ""
        return Named(manifest, known[release].version) if manifest and release in known else None

    async def facts(self, trusted: TrustedChannel, mark: Mark, *, ours: str, in_window: bool) -> Facts:
        """What is live, kept and past. Deployments whose `by` ends with `ours` are those of the channel."""
        releases = await self._journal.releases(self._app)
        live = await asyncio.to_thread(self._store.live)
        manifests = await asyncio.to_thread(lambda: {one.id: self._store.manifest(one.id) for one in releases})
        document = trusted.document
        wanted = [one.release.manifest for one in (document.target, document.before) if one is not None]
        known = {one for one in wanted if await self._journal.of_manifest(self._app, one)}
        return Facts(
            host=self._host,
            mark=mark,
            live=manifests.get(live, "") if live else None,
            release=live,
            kept={digest: release for release, digest in manifests.items() if digest},
            newest_accepted=await self._journal.newest_accepted(self._app),
            known=known,
            past=[_past(one, ours=ours) for one in await self._journal.since(self._app, mark.after)],
            deploying=self._lock.held,
            in_window=in_window,
        )


def _past(record: Record, *, ours: str) -> Past:
    return Past(
        manifest=record.manifest,
        done=record.phase is Phase.DONE,
        person=not record.attempt.by.endswith(ours),
        code=str((record.problem or {}).get("code", "")),
        problem=record.problem,
    )
