"""The drop directory: what lands there complete and signed is deployed, exactly as if it had been sent.

Invariant: events only wake; one look at what is there decides, and it comes to the same at any time. No timer
decides anything. Of several landings that are ready the newest is begun first, the others then have their turn.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path

import structlog

from agent.core.config import Drop
from agent.core.landing import (
    LANDINGS_MOST,
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
from agent.doors.landings import Landing
from agent.doors.ports import Deployer
from agent.doors.waking import Waking
from agent.host.disk import Disk
from agent.host.dropbox import Dropbox, Stamp
from agent.host.dropped_file import DroppedFile
from agent.host.dropped_folder import DroppedFolder
from agent.host.oserror import explained
from agent.host.ports import Clock
from pusher.wire import DROP_FOLDER, Code, Event, Problem, Refused, WireError

_log = structlog.get_logger()

_EVENT = "landing"


class DropDirectory:
    """The drop directory of one app, as a door. With `make` a folder that is not there is made."""

    def __init__(
        self, app: str, deployer: Deployer, *, path: Path, disk: Disk, clock: Clock, settings: Drop, make: bool
    ) -> None:
        self._app = app
        self._deployer = deployer
        self._path = path
        self._disk = disk
        self._clock = clock
        self._settings = settings
        self._make = make
        self._log = _log.bind(app=app, drop=str(path))
        self._waking = Waking(self._log, rescan_s=settings.rescan_s)
        self._box: Dropbox | None = None
        self._landings: dict[str, Landing] = {}
        self._written: dict[str, tuple[Result, object]] = {}
        self._told: Sequence[Result] = ()
        """What the last look came to: in the middle of one, a landing has no result."""
        self._news = asyncio.Event()
        self._looking = asyncio.Lock()
        self._crowded = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting_for_turn: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look at what landed while nobody watched, and from then on at what lands.

        Without a folder there is nothing to watch, and the agent serves all the same: that is logged.
        """
        try:
            self._box = await asyncio.to_thread(self._open)
        except (OSError, Problem) as error:
            self._log.error("drop_not_open", problem=str(error), hint=f"pusher-agent app apply {self._app}")
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
                f"The drop directory of {self._app} is not open",
                why=f"{self._path} could not be opened when the agent started",
                hint=f"As root: pusher-agent app apply {self._app}",
            )
        with explained("look into", self._path):
            await self._look()

    async def results(self, manifest: str) -> AsyncIterator[Event]:
        """What becomes of the landing with this manifest (its SHA-256), until it is settled.

        Without such a landing: that it is waited for.
        """
        last: Result | None = None
        sequence = 0
        while True:
            news = self._news
            found = next((one for one in self._told if one.manifest == manifest), None)
            if found is None:
                found = Result(name="", state=State.WAITING, awaited=Awaited.ARRIVAL, manifest=manifest,
                               waiting_for="papers with this manifest")  # fmt: skip
            if found != last:
                last, sequence = found, sequence + 1
                yield Event(sequence, self._clock.now(), _EVENT, {"app": self._app, **found.members()})
            if found.state is not State.WAITING:
                return
            await news.wait()

    async def _serve(self) -> None:
        while True:
            self._waking.clear()
            well = True
            try:
                await self._look()
            except (Problem, OSError, WireError) as error:
                well = False
                self._log.error("drop_not_read", problem=str(error))
            await self._waking.wait(well=well)

    async def _look(self) -> None:
        """Look at everything once, begin what can be begun, and say what became of what."""
        async with self._looking:
            box = self._box
            if box is None:
                return
            names = await asyncio.to_thread(box.names)
            await self._gather(box, names)
            stamps = await asyncio.to_thread(_stamps, list(self._landings.values()))
            for name, landing in self._landings.items():
                await landing.look(stamps[name])
            await self._begin_ready()
            await self._tell(box)
            await self._let_go(box, names)
            await self._waking.watch(box, [landing.lacks for landing in self._landings.values()])
            self._told = [landing.result for landing in self._landings.values()]
            news, self._news = self._news, asyncio.Event()
            news.set()

    async def _gather(self, box: Dropbox, names: Iterable[str]) -> None:
        """Know the landings that are there, and no others."""
        found = landings(names)
        if (len(found) > LANDINGS_MOST) is not self._crowded:
            self._crowded = not self._crowded
            self._log.warning("drop_crowded" if self._crowded else "drop_not_crowded", landings=len(found))
        there = set(found[:LANDINGS_MOST])
        for name in self._landings.keys() - there:
            gone = self._landings.pop(name)
            self._written.pop(name, None)
            if gone.result.state is State.WAITING:  # also where it is only crowded out: nobody looks at it now
                await self._remove(box, result_name(name))
        for name in sorted(there - self._landings.keys()):
            dropped = DroppedFolder(box) if name == DROP_FOLDER else DroppedFile(box, name)
            before = await asyncio.to_thread(box.result, name)
            self._landings[name] = Landing(dropped, self._deployer, before=before)

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
        waits = any(one.result.awaited is Awaited.TURN for one in self._landings.values())
        if waits and (self._waiting_for_turn is None or self._waiting_for_turn.done()):
            self._waiting_for_turn = self._spawn(self._await_turn(), "drop turn")

    async def _await_turn(self) -> None:
        await self._deployer.turn_over()
        self._waking.wake()

    async def _tell(self, box: Dropbox) -> None:
        """Write what became of each landing beside it, and into the log when it is news."""
        for name, landing in self._landings.items():
            result, (before, stamps) = landing.result, self._written.get(name, (None, None))
            if result == before and stamps == landing.stamps:
                continue
            self._written[name] = (result, landing.stamps)
            if before is None or (before.state, before.awaited) != (result.state, result.awaited):
                bad = result.state in (State.REFUSED, State.FAILED)
                (self._log.warning if bad else self._log.info)("drop_result", **result.members())
            words = document(self._app, result, since=self._clock.now())
            try:
                if not says_the_same(await asyncio.to_thread(box.result, name), words):
                    await asyncio.to_thread(box.write_result, name, words)
            except Problem as problem:
                # Somebody's folder of that name, say. The journal and the log have it.
                self._log.warning("drop_result_not_written", name=name, problem=str(problem))

    async def _let_go(self, box: Dropbox, names: Iterable[str]) -> None:
        """Retention, of what is settled and of results whose landing is gone; the folder stays, for rsync."""
        told = {name: file for file, name in results(names).items() if name != DROP_FOLDER}
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
        task = asyncio.create_task(work, name=f"{name} {self._app}")
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


def _settled(box: Dropbox, told: Mapping[str, str]) -> list[Kept]:
    """Landings by the files that tell of them, for retention."""
    stamps = {name: box.stamp(file) for name, file in told.items()}
    return [Kept(name, stamp.modified // 1_000_000) for name, stamp in stamps.items() if stamp is not None]
