"""The drop directory: what lands there complete and signed is deployed, exactly as if it had been sent.

Invariant: events only wake; one look at what is there decides, and it comes to the same at any time. No timer
decides anything, and none runs while nothing waits for what no event tells of. Of several landings that are ready
the newest is begun first, the others then have their turn.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path

import structlog

from agent.core.config import Drop
from agent.core.drop import (
    LANDINGS_MOST,
    REMEMBERED_MOST,
    Awaited,
    Kept,
    Result,
    State,
    document,
    landings,
    result_name,
    results,
    says_the_same,
    surplus,
)
from agent.core.fair_queue import FairQueue
from agent.doors.drop.upload import Landing
from agent.doors.drop.wakeup import Wakeup
from agent.doors.ports import App
from agent.host.drop.dropped_file import DroppedFile
from agent.host.drop.dropped_folder import DroppedFolder
from agent.host.drop.folder import Dropbox, Stamp
from agent.host.ports import Clock
from agent.host.storage.disk import Disk
from agent.host.storage.errors import explained
from pusher.wire import DROP_FOLDER, Code, Event, Problem, Refused, WireError

_log = structlog.get_logger()

_EVENT = "landing"


class DropDirectory:
    """The drop directory of one app, as a door. With `make` a folder that is not there is made."""

    def __init__(self, app: App, *, path: Path, disk: Disk, clock: Clock, settings: Drop, make: bool) -> None:
        self._app = app
        self._path = path
        self._disk = disk
        self._clock = clock
        self._settings = settings
        self._make = make
        self._log = _log.bind(app=app.name, drop=str(path))
        self._waking = Wakeup(self._log, rescan_s=settings.rescan_s, clock=clock)
        self._box: Dropbox | None = None
        self._landings: dict[str, Landing] = {}
        self._written: dict[str, tuple[Result, object]] = {}
        self._unwritten: set[str] = set()
        """The landings whose results are written as soon as the disk takes them."""
        self._told: Sequence[Result] = ()
        """What the last look came to: in the middle of one, a landing has no result."""
        self._news = asyncio.Event()
        self._looking = asyncio.Lock()
        self._crowd: FairQueue[Stamp] = FairQueue(most=LANDINGS_MOST, remembered=REMEMBERED_MOST)
        self._crowded = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting_for_turn: asyncio.Task[None] | None = None
        self._turns: Sequence[Result] = ()
        """What waited for its turn when one was over the last time: if it still does, no event will end that."""
        self._untold = False
        """Whether something waits for what no event tells of, as the last look found it."""

    async def start(self) -> None:
        """Look at what landed while nobody watched, and from then on at what lands.

        Without a folder there is nothing to watch, and the agent serves all the same: that is logged.
        """
        try:
            self._box = await asyncio.to_thread(self._open)
        except (OSError, Problem) as error:
            self._log.error("drop_not_open", problem=str(error), hint=f"pusher-agent app apply {self._app.name}")
            return
        self._waking.open()
        self._spawn(self._serve(), "drop")

    async def stop(self) -> None:
        """Look no more. What is under way has ended by then, or is left to the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._waking.close()
        if self._box is not None:
            box, self._box = self._box, None
            await asyncio.to_thread(box.close)

    async def look(self) -> None:
        """Look at everything now, as if an event had told of it. Raises: Refused, if it is not open; Failed."""
        if self._box is None:
            raise Refused(
                Code.CONFIGURATION,
                f"The drop directory of {self._app.name} is not open",
                why=f"{self._path} could not be opened when the agent started",
                hint=f"As root: pusher-agent app apply {self._app.name}",
            )
        with explained("look into", self._path):
            self._crowd.renew()
            await self._look()
            for _ in range(self._crowd.left):
                await self._look()
        if self._untold:
            self._waking.wake()  # whoever waits for events is to wait for the time, too

    async def results(self, manifest: str) -> AsyncIterator[Event]:
        """What becomes of the landing with this manifest (its SHA-256), until it is settled.

        Without such a landing: that it is waited for.
        """
        last: Result | None = None
        sequence = 0
        while True:
            news = self._news
            # Anybody may put a manifest into a bundle of no use: the landing that comes furthest tells.
            found = max((one for one in self._told if one.manifest == manifest), key=_furthest, default=None)
            if found is None:
                found = Result(name="", state=State.WAITING, awaited=Awaited.ARRIVAL, manifest=manifest,
                               waiting_for="papers with this manifest")  # fmt: skip
            if found != last:
                last, sequence = found, sequence + 1
                yield Event(sequence, self._clock.now(), _EVENT, {"app": self._app.name, **found.members()})
            if found.state is not State.WAITING:
                return
            await news.wait()

    async def _serve(self) -> None:
        while True:
            if self._waking.clear():
                self._crowd.renew()
            well = True
            try:
                await self._look()
            except (Problem, OSError, WireError) as error:
                well = False
                self._log.error("drop_not_read", problem=str(error))
            if not well or not self._crowd.left:
                await self._waking.wait(well=well, untold=self._untold)
                self._crowd.renew()

    async def _look(self) -> None:
        """Look at as much as is looked at at a time, begin what can be begun, and say what became of what."""
        async with self._looking:
            box = self._box
            if box is None:
                return
            names = await asyncio.to_thread(box.names)
            await self._gather(box, names)
            now = self._clock.now()
            stamps = await asyncio.to_thread(_stamps, list(self._landings.values()))
            for name, landing in self._landings.items():
                await landing.look(stamps[name], now=now)
            await self._begin_ready()
            await self._thin_out(box)
            await self._tell(box)
            await self._let_go(box, names)
            await self._waking.watch(box, [landing.lacks for landing in self._landings.values()])
            self._told = [landing.result for landing in self._landings.values()]
            self._untold = self._waits_untold()
            news, self._news = self._news, asyncio.Event()
            news.set()

    async def _gather(self, box: Dropbox, names: Iterable[str]) -> None:
        """Know the landings that are there and that were known, and those whose turn it is."""
        found = landings(names)
        if (len(found) > LANDINGS_MOST) is not self._crowded:
            self._crowded = not self._crowded
            self._log.warning("drop_crowded" if self._crowded else "drop_not_crowded", landings=len(found))
        for name in self._landings.keys() - set(found):
            await self._drop(box, name)
        bundles = await asyncio.to_thread(_bundles, box, found)
        chosen = self._crowd.chosen(bundles, held=self._landings)
        for name in sorted({*chosen, *(name for name in found if name == DROP_FOLDER)} - self._landings.keys()):
            dropped = DroppedFolder(box) if name == DROP_FOLDER else DroppedFile(box, name)
            before = await asyncio.to_thread(box.result, name)
            self._landings[name] = Landing(dropped, self._app, before=before)

    async def _thin_out(self, box: Dropbox) -> None:
        """Know no more landings than are told of: first those of which something becomes, then the newest."""
        bundles = sorted(
            (landing for landing in self._landings.values() if landing.name != DROP_FOLDER), key=_use, reverse=True
        )
        for landing in bundles[LANDINGS_MOST + self._settings.keep :]:
            stamp = landing.stamps[0] if landing.stamps else None
            if landing.result.awaited is Awaited.ARRIVAL and stamp is not None and not landing.warm:
                self._crowd.pass_over(landing.name, stamp)
            await self._drop(box, landing.name)

    async def _drop(self, box: Dropbox, name: str) -> None:
        gone = self._landings.pop(name)
        self._written.pop(name, None)
        if gone.result.state is State.WAITING:  # also where it is only thinned out: nobody tells of it now
            await self._remove(box, result_name(name))

    async def _begin_ready(self) -> None:
        """Begin the newest; older ones get their turn, and are judged again then."""
        begun = None
        for landing in sorted(self._landings.values(), key=lambda one: one.created, reverse=True):
            if not landing.ready:
                continue
            if begun is not None:
                landing.wait_for(begun)
            else:
                begun = await landing.begin()
                if landing.reading is not None:
                    self._keep(landing.reading)
        waiting = self._waiting(Awaited.TURN)
        if not waiting:
            self._turns = ()
        elif self._waiting_for_turn is None or self._waiting_for_turn.done():
            self._waiting_for_turn = self._spawn(self._await_turn(waiting), "drop turn")

    async def _await_turn(self, waiting: Sequence[Result]) -> None:
        await self._app.status.idle()
        # One whose end could not be written down is under way for ever, and is nobody's turn.
        if waiting != self._turns:
            self._turns = waiting
            self._waking.wake()

    def _waits_untold(self) -> bool:
        waiting = self._waiting(Awaited.TURN)
        return bool(self._waiting(Awaited.HOST) or (waiting and waiting == self._turns) or self._unwritten)

    def _waiting(self, what: Awaited) -> Sequence[Result]:
        return [one.result for one in self._landings.values() if one.result.awaited is what]

    async def _tell(self, box: Dropbox) -> None:
        """Write what became of each landing beside it, and into the log when it is news."""
        full, self._unwritten = self._unwritten, set()
        for name, landing in self._landings.items():
            result, (before, stamps) = landing.result, self._written.get(name, (None, None))
            if result == before and stamps == landing.stamps and name not in full:
                continue
            self._written[name] = (result, landing.stamps)
            if before is None or (before.state, before.awaited) != (result.state, result.awaited):
                bad = result.state in (State.REFUSED, State.FAILED)
                (self._log.warning if bad else self._log.info)("drop_result", **result.members())
            words = document(self._app.name, result, since=self._clock.now())
            try:
                if not says_the_same(await asyncio.to_thread(box.result, name), words):
                    await asyncio.to_thread(box.write_result, name, words)
            except Problem as problem:
                # Somebody's folder of that name, say. The journal and the log have it.
                if problem.code is Code.DISK_FULL:
                    self._unwritten.add(name)
                if name not in full:
                    self._log.warning("drop_result_not_written", name=name, problem=str(problem))

    async def _let_go(self, box: Dropbox, names: Collection[str]) -> None:
        """Retention, of what is settled and of results whose landing is gone; the folder stays, for rsync."""
        unknown = set(names) - self._landings.keys() | {DROP_FOLDER}
        told = {name: file for file, name in results(names).items() if name not in unknown}
        for waiting in [one for one in self._landings.values() if one.result.state is State.WAITING]:
            told.pop(waiting.name, None)
        settled = await asyncio.to_thread(_settled, box, told)
        keep, days = self._settings.keep, self._settings.days
        for name in surplus(settled, now=self._clock.now(), keep=keep, days=days):
            landing = self._landings.get(name)
            if landing is not None and landing.stamps:
                await self._remove(box, name, only=landing.stamps[0])
            if await asyncio.to_thread(box.stamp, name) is None:
                await self._remove(box, result_name(name))
                self._landings.pop(name, None)
                self._written.pop(name, None)
                self._log.info("drop_let_go", name=name)

    async def _remove(self, box: Dropbox, name: str, *, only: Stamp | None = None) -> None:
        try:
            await asyncio.to_thread(box.remove, name, only=only)
        except Problem as problem:
            self._log.warning("drop_not_removed", name=name, problem=str(problem))  # somebody's folder, say

    def _open(self) -> Dropbox:
        if self._make:
            self._disk.make_folders(self._path, op="drop.folder")
        return Dropbox(self._path, self._disk)

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
            self._log.error("drop_broken", exc_info=error)  # a bug of ours; the other doors are open still


def _stamps(landings: Iterable[Landing]) -> dict[str, tuple[Stamp | None, ...]]:
    return {landing.name: landing.dropped.stamps() for landing in landings}


def _bundles(box: Dropbox, found: Collection[str]) -> dict[str, Stamp]:
    """What stands there under the names of bundles' files."""
    stamps = {name: box.stamp(name) for name in found if name != DROP_FOLDER}
    return {name: stamp for name, stamp in stamps.items() if stamp is not None}


def _use(landing: Landing) -> tuple[bool, bool, int]:
    """Orders landings by whether anything can become of one, or has, then by their last change."""
    stamp = landing.stamps[0] if landing.stamps else None
    waits = landing.result.awaited in (Awaited.TURN, Awaited.HOST)
    return waits, landing.result.state is not State.WAITING, stamp.changed if stamp else 0


def _furthest(result: Result) -> tuple[bool, bool]:
    return bool(result.deployment), result.awaited in (Awaited.TURN, Awaited.HOST)


def _settled(box: Dropbox, told: Mapping[str, str]) -> list[Kept]:
    """Landings by the files that tell of them, for retention."""
    stamps = {name: box.stamp(file) for name, file in told.items()}
    return [Kept(name, stamp.modified // 1_000_000) for name, stamp in stamps.items() if stamp is not None]
