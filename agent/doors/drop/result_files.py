"""The results that are written beside drops, and how long drops and results are kept.

Invariant: results are words for people. They lie where others can write, so nothing is decided by them.
"""

import asyncio
from collections.abc import Collection, Mapping

import structlog

from agent.core.config.host import Drop as Settings
from agent.core.drop import (
    Final,
    Result,
    State,
    document,
    result_name,
    results,
    says_the_same,
    surplus,
)
from agent.doors.drop.drop import Drop
from agent.doors.refusals import Refusals
from agent.host.drop.directory import OpenDirectory, Stamp
from agent.host.net.peer import Caller, login_of
from agent.host.ports import Clock
from pusher.wire import DROP_FOLDER, Code, Problem, Refused


class ResultFiles:
    """The results of one app's drops. `log` is told when one has another result, `refusals` why it is refused."""

    def __init__(
        self,
        app: str,
        *,
        settings: Settings,
        clock: Clock,
        log: structlog.stdlib.BoundLogger,
        refusals: Refusals,
    ) -> None:
        self._refusals = refusals
        self._app = app
        self._settings = settings
        self._clock = clock
        self._log = log
        self._written: dict[str, tuple[Result, object]] = {}
        self._unwritten: set[str] = set()

    @property
    def wait_for_disk(self) -> bool:
        """Whether a result could not be written because the disk is full."""
        return bool(self._unwritten)

    def forget(self, name: str) -> None:
        """Forget what was written about a drop."""
        self._written.pop(name, None)
        self._unwritten.discard(name)

    def forget_all(self) -> None:
        """Write all results again: the drop directory is another one."""
        self._written.clear()
        self._unwritten.clear()

    async def write(self, directory: OpenDirectory, drops: Mapping[str, Drop]) -> None:
        """Write the result of each drop beside it, and log those that are new."""
        unwritten, self._unwritten = self._unwritten, set()
        for name, drop in drops.items():
            result, (before, stamps) = drop.result, self._written.get(name, (None, None))
            if result == before and stamps == drop.stamps and name not in unwritten:
                continue
            self._written[name] = (result, drop.stamps)
            if before is None or (before.state, before.awaited) != (result.state, result.awaited):
                bad = result.state in (State.REFUSED, State.FAILED)
                (self._log.warning if bad else self._log.info)("drop_result", **result.members())
                if drop.refusal is not None:
                    await self._note(drop.refusal, drop)
            words = document(self._app, result, since=self._clock.now())
            try:
                if not says_the_same(await asyncio.to_thread(directory.result, name), words):
                    await asyncio.to_thread(directory.write_result, name, words)
            except Problem as problem:
                # For example, somebody has made a folder with its name. Journal and log have the result.
                if problem.code is Code.DISK_FULL:
                    self._unwritten.add(name)
                if name not in unwritten:
                    self._log.warning("drop_result_not_written", name=name, problem=str(problem))

    async def _note(self, problem: Refused, drop: Drop) -> None:
        """Log a refusal. The caller is the owner of the bundle's file, or of the manifest: more is not known."""
        owner = drop.stamps[0].owner if drop.stamps and drop.stamps[0] else None
        login = "" if owner is None else await asyncio.to_thread(login_of, owner)
        self._refusals.note(problem, door="drop", caller=Caller(owner, login).name, app=self._app, name=drop.name)

    async def remove(self, directory: OpenDirectory, name: str) -> None:
        """Remove the result of a drop."""
        self.forget(name)
        await self._remove(directory, result_name(name))

    async def expire(
        self, directory: OpenDirectory, names: Collection[str], drops: Mapping[str, Drop]
    ) -> list[str]:
        """Retention: remove old settled bundle files, and results without a drop. The folder stays, for rsync.

        `names` are all names in the directory. Returns the names of the drops that are gone.
        """
        unknown = set(names) - drops.keys() | {DROP_FOLDER}
        files = {name: file for file, name in results(names).items() if name not in unknown}
        for waiting in [one for one in drops.values() if one.result.state is State.WAITING]:
            files.pop(waiting.name, None)
        final = await asyncio.to_thread(_final, directory, files)
        gone = []
        for name in surplus(final, now=self._clock.now(), keep=self._settings.keep, days=self._settings.days):
            drop = drops.get(name)
            if drop is not None and drop.stamps:
                await self._remove(directory, name, only=drop.stamps[0])
            if await asyncio.to_thread(directory.stamp, name) is None:
                await self.remove(directory, name)
                self._log.info("drop_expired", name=name)
                gone.append(name)
        return gone

    async def _remove(self, directory: OpenDirectory, name: str, *, only: Stamp | None = None) -> None:
        try:
            await asyncio.to_thread(directory.remove, name, only=only)
        except Problem as problem:
            # For example, somebody has made a folder with its name.
            self._log.warning("drop_not_removed", name=name, problem=str(problem))


def _final(directory: OpenDirectory, files: Mapping[str, str]) -> list[Final]:
    """Drops with a final state, from the files with their results, which are as old as that state."""
    stamps = {name: directory.stamp(file) for name, file in files.items()}
    return [Final(name, stamp.modified // 1_000_000) for name, stamp in stamps.items() if stamp is not None]
