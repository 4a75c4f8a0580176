"""The drop directory: a drop that is complete and signed is deployed, exactly as if it had been sent.

Invariant: events wake, one scan decides. A scan compares what is there with what was signed, and comes to the same
at any time. Of several drops that are ready the newest is begun first; the others follow.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Sequence
from pathlib import Path

import structlog

from agent.core.config.host import Drop as Settings
from agent.core.drop import REMEMBERED_MOST, SCANNED_MOST, Awaited, Result, State, drops
from agent.core.fair_queue import FairQueue
from agent.doors.drop.drop import Drop
from agent.doors.drop.result_files import ResultFiles
from agent.doors.drop.wakeup import Wakeup
from agent.doors.ports import App
from agent.doors.refusals import Refusals
from agent.host.changes import Changes
from agent.host.drop.directory import OpenDirectory, Stamp
from agent.host.drop.dropped_file import DroppedFile
from agent.host.drop.dropped_folder import DroppedFolder
from agent.host.ports import Clock
from agent.host.storage.disk import Disk
from agent.host.storage.errors import explained
from pusher.wire import DROP_FOLDER, Code, Event, Problem, Refused, WireError

_log = structlog.get_logger()

_EVENT = "landing"


class DropDirectory:
    """The drop directory of one app, as a door. With `make` the agent makes a directory that does not exist."""

    def __init__(
        self,
        app: App,
        *,
        path: Path,
        disk: Disk,
        clock: Clock,
        settings: Settings,
        make: bool,
        refusals: Refusals | None = None,
    ) -> None:
        self._app = app
        self._path = path
        self._disk = disk
        self._clock = clock
        self._settings = settings
        self._make = make
        self._log = _log.bind(app=app.name, drop=str(path))
        self._wakeup = Wakeup(path, rescan_s=settings.rescan_s, clock=clock, log=self._log)
        self._result_files = ResultFiles(
            app.name, settings=settings, clock=clock, log=self._log, refusals=refusals or Refusals()
        )
        self._directory: OpenDirectory | None = None
        self._not_open = False
        """Whether it was logged that there is no directory."""
        self._drops: dict[str, Drop] = {}
        self._results: Sequence[Result] = ()
        """The results of the last whole scan. During a scan, a drop may have none."""
        self._changes = Changes()
        self._scanning = asyncio.Lock()
        self._queue: FairQueue[Stamp] = FairQueue(most=SCANNED_MOST, remembered=REMEMBERED_MOST)
        self._stopped = False
        self._many = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._readings: set[asyncio.Task[None]] = set()
        """The tasks that last as long as a deployment reads from the directory."""
        self._idle: asyncio.Task[None] | None = None
        """Waits until no deployment is under way."""
        self._stale: Sequence[Result] = ()
        """What still waited for a deployment when none was under way: no event will end that."""
        self._unreported = False
        """Whether a drop waits for a condition the kernel cannot report, as the last scan found it."""

    async def start(self) -> None:
        """Scan what arrived before the agent started, and from then on whatever arrives.

        Without a directory the agent serves all the same: that is logged, and the directory is awaited.
        """
        await self._reopen()
        self._spawn(self._serve(), "drop")

    async def stop(self) -> None:
        """Scan no more. Deployments under way have ended by then, or are left to the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with self._scanning:  # by a request, which may have begun one meanwhile
            self._stopped = True
            await self._wakeup.close()
            if self._directory is not None:
                directory, self._directory = self._directory, None
                await asyncio.to_thread(directory.close)

    async def scan(self) -> None:
        """Scan everything now, as if an event had woken the door. Raises: Refused, without a directory; Failed."""
        with explained("scan", self._path):
            self._queue.renew()
            await self._scan_part()
            for _ in range(self._queue.left):
                await self._scan_part()
        if self._directory is None:
            raise Refused(
                Code.CONFIGURATION,
                f"The drop directory of {self._app.name} is not open",
                why=f"{self._path} cannot be opened",
                hint=f"As root: pusher-agent app apply {self._app.name}",
            )
        if self._unreported:
            self._wakeup.wake()  # a `wait` under way has no timer yet

    async def results(self, manifest: str) -> AsyncIterator[Event]:
        """What becomes of the drop with this manifest (its SHA-256), each time it changes, until it is settled.

        Without such a drop, the first event says that it is awaited.
        """
        last: Result | None = None
        sequence = 0
        while True:
            change = self._changes.next()
            # Anyone can put this manifest into a bundle that is worth nothing: the drop that got furthest counts.
            found = max((one for one in self._results if one.manifest == manifest), key=_progress, default=None)
            if found is None:
                found = Result(name="", state=State.WAITING, awaited=Awaited.ARRIVAL, manifest=manifest,
                               waiting_for="a drop with this manifest")  # fmt: skip
            if found != last:
                last, sequence = found, sequence + 1
                yield Event(sequence, self._clock.now(), _EVENT, {"app": self._app.name, **found.members()})
            if found.state is not State.WAITING:
                return
            await change.wait()

    def waiting(self) -> Iterable[Awaited]:
        """What each drop waits for that waits, as of the last scan."""
        return [one.awaited for one in self._results if one.awaited is not None]

    async def _serve(self) -> None:
        while True:
            if self._wakeup.clear():
                self._queue.renew()
            scanned = False
            try:
                await self._scan_part()
                scanned = self._directory is not None
            except (Problem, OSError, WireError) as error:
                self._log.error("drop_not_scanned", problem=str(error))
            if not scanned or not self._queue.left:
                await self._wakeup.wait(scanned=scanned, unreported=self._unreported)
                self._queue.renew()

    async def _scan_part(self) -> None:
        """Check as many drops as one scan examines, begin what is ready, and write the results."""
        async with self._scanning:
            if self._stopped:
                return
            directory = await self._reopen()
            if directory is not None:
                names = await asyncio.to_thread(directory.names)
                await self._gather(directory, names)
                now = self._clock.now()
                stamps = await asyncio.to_thread(_stamps, list(self._drops.values()))
                for name, drop in self._drops.items():
                    await drop.check(stamps[name], now=now)
                await self._begin_ready()
                await self._thin_out(directory)
                await self._result_files.write(directory, self._drops)
                for name in await self._result_files.expire(directory, names, self._drops):
                    self._drops.pop(name, None)
            await self._wakeup.watch(directory, [drop.missing for drop in self._drops.values() if drop.missing])
            self._results = [drop.result for drop in self._drops.values()]
            self._unreported = self._waits_unreported()
            self._changes.announce()

    async def _reopen(self) -> OpenDirectory | None:
        """The directory that is at the path now. It may have been made, removed or replaced since the last
        scan."""
        if self._directory is not None and not await asyncio.to_thread(self._directory.is_current):
            closing, self._directory = self._directory, None
            self._drops.clear()
            self._result_files.forget_all()
            self._spawn(_close(closing, set(self._readings)), "drop close")
        if self._directory is None:
            try:
                self._directory = await asyncio.to_thread(self._open)
            except (OSError, Problem) as error:
                if not self._not_open:
                    hint = f"As root: pusher-agent app apply {self._app.name}"
                    self._log.error("drop_not_open", problem=str(error), hint=hint)
                self._not_open = True
                return None
            if self._not_open:
                self._not_open = False
                self._log.info("drop_reopened")
        return self._directory

    def _open(self) -> OpenDirectory:
        if self._make:
            self._disk.make_folders(self._path, op="drop.folder")
        directory = OpenDirectory(self._path, self._disk)
        try:
            directory.mark(self._app.name)
        except (OSError, Problem) as problem:
            # Drops are deployed all the same; `pusher drop` reports the missing mark.
            self._log.warning("drop_not_marked", problem=str(problem))
        return directory

    async def _gather(self, directory: OpenDirectory, names: Iterable[str]) -> None:
        """Keep the drops that are still there, and take in those that the queue chooses."""
        found = drops(names)
        if (len(found) > SCANNED_MOST) is not self._many:
            self._many = not self._many
            self._log.warning("drop_scanned_in_parts" if self._many else "drop_scanned_whole", drops=len(found))
        for name in self._drops.keys() - set(found):
            await self._let_go(directory, name)
        files = await asyncio.to_thread(_files, directory, found)
        chosen = self._queue.choose(files, held=self._drops)
        for name in sorted({*chosen, *(name for name in found if name == DROP_FOLDER)} - self._drops.keys()):
            dropped = DroppedFolder(directory) if name == DROP_FOLDER else DroppedFile(directory, name)
            before = await asyncio.to_thread(directory.result, name)
            self._drops[name] = Drop(dropped, self._app, before=before)

    async def _thin_out(self, directory: OpenDirectory) -> None:
        """Keep no more drops than get a result: first those that can be or were deployed, then the newest."""
        files = [drop for drop in self._drops.values() if drop.name != DROP_FOLDER]
        files.sort(key=_worth, reverse=True)
        for drop in files[SCANNED_MOST + self._settings.keep :]:
            stamp = drop.stamps[0] if drop.stamps else None
            if drop.result.awaited is Awaited.ARRIVAL and stamp is not None and not drop.recent:
                self._queue.reject(drop.name, stamp)
            await self._let_go(directory, drop.name)

    async def _let_go(self, directory: OpenDirectory, name: str) -> None:
        gone = self._drops.pop(name)
        if gone.result.state is State.WAITING:  # the result would never be updated
            await self._result_files.remove(directory, name)
        else:
            self._result_files.forget(name)

    async def _begin_ready(self) -> None:
        """Begin the newest drop that is ready. The older ones wait for its deployment, and are checked again
        then."""
        begun = None
        for drop in sorted(self._drops.values(), key=lambda one: one.created, reverse=True):
            if not drop.ready:
                continue
            if begun is not None:
                drop.wait_for(begun)
            else:
                begun = await drop.begin()
                if drop.reading is not None:
                    self._readings.add(drop.reading)
                    drop.reading.add_done_callback(self._readings.discard)
                    self._keep(drop.reading)
        waiting = self._waiting(Awaited.TURN)
        if not waiting:
            self._stale = ()
        elif self._idle is None or self._idle.done():
            self._idle = self._spawn(self._await_idle(waiting), "drop idle")

    async def _await_idle(self, waiting: Sequence[Result]) -> None:
        await self._app.status.idle()
        # A deployment whose end could not be journalled seems to be under way for ever: do not wake in a loop.
        if waiting != self._stale:
            self._stale = waiting
            self._wakeup.wake()

    def _waits_unreported(self) -> bool:
        waiting = self._waiting(Awaited.TURN)
        stale = bool(waiting) and waiting == self._stale
        return bool(self._waiting(Awaited.HOST)) or stale or self._result_files.wait_for_disk

    def _waiting(self, what: Awaited) -> Sequence[Result]:
        return [drop.result for drop in self._drops.values() if drop.result.awaited is what]

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"{name} {self._app.name}")
        self._keep(task)
        return task

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("drop_broken", exc_info=error)  # a bug of ours; the other doors stay open


def _stamps(found: Iterable[Drop]) -> dict[str, tuple[Stamp | None, ...]]:
    return {drop.name: drop.dropped.stamps() for drop in found}


def _files(directory: OpenDirectory, found: Collection[str]) -> dict[str, Stamp]:
    """The stamps of the bundle files."""
    stamps = {name: directory.stamp(name) for name in found if name != DROP_FOLDER}
    return {name: stamp for name, stamp in stamps.items() if stamp is not None}


def _worth(drop: Drop) -> tuple[bool, bool, int]:
    """Orders drops: those that can be deployed last, before them those that are settled, then by their last
    change."""
    stamp = drop.stamps[0] if drop.stamps else None
    waits = drop.result.awaited in (Awaited.TURN, Awaited.HOST)
    return waits, drop.result.state is not State.WAITING, stamp.changed if stamp else 0


def _progress(result: Result) -> tuple[bool, bool]:
    """Orders results by how far the drop got."""
    return bool(result.deployment), result.awaited in (Awaited.TURN, Awaited.HOST)


async def _close(directory: OpenDirectory, readings: Collection["asyncio.Task[None]"]) -> None:
    """Close it when no deployment reads from it: its descriptor's number could be given to another folder."""
    try:
        if readings:
            await asyncio.wait(readings)
    finally:
        await asyncio.to_thread(directory.close)
