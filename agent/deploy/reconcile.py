"""Making disk and journal agree again when an agent starts.

Invariant: the disk wins, and nothing that the journal counts as a release is deleted. Doing it twice comes to the
same as once.
"""

import asyncio
import os
from dataclasses import replace

import structlog

from agent.core.layout import live_venv_target
from agent.core.releases import Standing
from agent.core.run import with_additions
from agent.host.releases.run_files import keeps_run, write_run
from agent.host.releases.store import ReleaseStore
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Code, Failed

_log = structlog.get_logger()


async def reconcile(app: str, *, store: ReleaseStore, disk: Disk, journal: Journal) -> None:
    """Delete half-built trees, adopt releases that the journal lost, forget those that the disk lost.

    No deployment may be unfinished. An adopted release counts as a candidate, which only a rollback by name
    reaches; if it is live, it has shown that it is good. Raises: Failed, if the folder of releases is missing
    although the journal knows some; or, when all else is done, for a tree that cannot be deleted.
    """
    undeleted = []
    for half_built in await asyncio.to_thread(store.unfinished):
        try:
            await asyncio.to_thread(disk.discard, half_built, op="reconcile.discard")
        except Failed as problem:
            undeleted.append(problem)
    known = {one.id for one in await journal.releases(app)}
    if known and not await asyncio.to_thread(os.path.isdir, store.layout.releases):
        raise Failed(
            Code.DISK_ERROR,
            f"The releases of {app} are gone, with the folder {store.layout.releases}",
            why="it may lie on a filesystem that is not mounted yet, so none of them is forgotten",
            hint="Mount it and restart the agent, or send a release to begin anew",
        )
    for release in await asyncio.to_thread(store.folders):
        # Of an agent that kept nothing about it: as the host says now, and never otherwise again.
        if not await asyncio.to_thread(keeps_run, release):
            _log.info("run_section_kept", app=app, release=release.name)
            await asyncio.to_thread(write_run, release, store.unsaid, disk=disk)
    live = await asyncio.to_thread(store.live)
    if live is not None:
        await asyncio.to_thread(_add, store, live, disk)
    found = {one.id: one for one in await asyncio.to_thread(store.found)}
    adopted = [
        replace(one, standing=Standing.GOOD if one.id == live else Standing.CANDIDATE)
        for one in found.values()
        if one.id not in known
    ]
    if adopted:
        _log.warning("releases_adopted", app=app, releases=[one.id for one in adopted])
        await journal.adopt(app, adopted)
    for gone in sorted(known - {path.name for path in await asyncio.to_thread(store.folders)}):
        _log.warning("release_gone", app=app, release=gone)
        await journal.forget(app, gone)
    if live is not None and (venv := found[live].venv if live in found else ""):
        await asyncio.to_thread(disk.flip, store.layout.shared_venv, live_venv_target(venv), op="reconcile.venv")
    if undeleted:
        raise undeleted[0]


def _add(store: ReleaseStore, live: str, disk: Disk) -> None:
    """Let the live release run the workers and timers that root has added since it was deployed. Blocking."""
    run = store.run(live)
    if (wider := with_additions(run, store.unsaid)) != run:
        write_run(store.layout.release(live), wider, disk=disk)
