"""What is known here of an app that follows a channel: the facts that its decision needs.

Invariant: the newest document that was accepted is in the journal before anything follows from it.
"""

import asyncio
from collections.abc import Sequence

from agent.core.channel import Facts, Mark, Past, TrustedChannel, accept
from agent.core.phases import Phase
from agent.deploy.lock import DeploymentLock
from agent.host.ports import Clock
from agent.host.releases.store import ReleaseStore
from agent.host.storage.deployments import Record
from agent.host.storage.journal import Journal
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
        before, newest = await self._journal.mark(self._app, channel)
        mark = accept(
            trusted,
            app=self._app,
            channel=channel,
            host=self._host,
            mark=before,
            now=self._clock.now(),
            newest_deployment=newest,
        )
        if mark != before:
            await self._journal.set_mark(self._app, channel, mark)
        return mark

    async def live(self) -> Named | None:
        """The release that is live."""
        known = {one.id: one for one in await self._journal.releases(self._app)}
        release, manifests = await asyncio.to_thread(self._on_disk, ())
        manifest = manifests.get(release or "", "")
        return Named(manifest, known[release].version) if release in known and manifest else None

    async def facts(self, trusted: TrustedChannel, mark: Mark, *, ours: str, in_window: bool) -> Facts:
        """What is live, kept and past. Deployments whose `by` ends with `ours` are those of the channel."""
        document = trusted.document
        wanted = [one.release.manifest for one in (document.target, document.before) if one is not None]
        found = await self._journal.subscribed(self._app, wanted=wanted, after=mark.after)
        live, manifests = await asyncio.to_thread(self._on_disk, [one.id for one in found.releases])
        return Facts(
            host=self._host,
            mark=mark,
            live=manifests[live] if live else None,
            release=live,
            kept={manifests[one.id]: one.id for one in found.releases if manifests[one.id]},
            newest_accepted=found.newest_accepted,
            known=found.known,
            past=[_past(one, ours=ours) for one in found.past],
            deploying=self._lock.held,
            in_window=in_window,
            version=next((one.version for one in found.releases if one.id == live), ""),
        )

    def _on_disk(self, releases: Sequence[str]) -> tuple[str | None, dict[str, str]]:
        """The live release, and the manifests of it and of these. Blocking."""
        live = self._store.live()
        return live, {one: self._store.manifest(one) for one in {*releases, *([live] if live else [])}}


def _past(record: Record, *, ours: str) -> Past:
    return Past(
        manifest=record.manifest,
        done=record.phase is Phase.DONE,
        person=not record.attempt.by.endswith(ours),
        code=str((record.problem or {}).get("code", "")),
        problem=record.problem,
    )
