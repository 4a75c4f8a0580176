"""When to scan a drop directory again: after a change, or else after a time.

Invariant: whatever may have changed wakes. One scan too many does no harm; one too few would leave somebody
waiting. Timers run only while something waits for a condition the kernel cannot report.
"""

import asyncio
import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

import structlog

from agent.core.backoff import Backoff
from agent.core.drop import FIRST_PAUSE_S, LONGEST_PAUSE_S, is_ignored
from agent.host.drop.directory import Chain, OpenDirectory
from agent.host.drop.watch import STEP_S, Ignores, Watch
from agent.host.ports import Clock


class Wakeup:
    """Wakes the door of one drop directory, which is, or will be, at `path`.

    While the directory cannot be watched it wakes every `rescan_s` seconds. `log` is told when that begins and
    ends.
    """

    def __init__(
        self,
        path: Path,
        *,
        rescan_s: float,
        clock: Clock,
        log: structlog.stdlib.BoundLogger,
        step_s: float = STEP_S,
    ) -> None:
        self._path = path
        self._rescan_s = rescan_s
        self._step_s = step_s
        self._clock = clock
        self._log = log
        self._pauses = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._woken = asyncio.Event()
        self._watch: Watch | None = None
        self._unwatched = False
        self._listening: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop watching. Idempotent."""
        self._end_watch()
        await asyncio.gather(*self._listening, return_exceptions=True)

    def wake(self) -> None:
        """End the `wait` under way, or the next one."""
        self._woken.set()

    def clear(self) -> bool:
        """Note that a scan begins, which sees all that happened so far. Whether anything did."""
        woken = self._woken.is_set()
        self._woken.clear()
        return woken

    async def wait(self, *, scanned: bool, unreported: bool) -> None:
        """Return when something may have changed; after `rescan_s` at the latest if the last scan did not succeed.

        `unreported`: something waits for a condition the kernel cannot report. Then also return after a pause,
        each longer than the last.
        """
        if not unreported:
            self._pauses.reset()
        pauses = [self._rescan_s] if self._watch is None or not scanned else []
        pauses += [self._pauses.coming] if unreported else []
        if not await self._woken_within(min(pauses, default=None)) and unreported:
            self._pauses.next()

    async def watch(self, directory: OpenDirectory | None, missing: Iterable[str]) -> None:
        """Watch the directory, the folder above it, and the folders on the way to what is `missing` (its paths).

        Each of them alone, without the folders inside. If they are other folders than before, this wakes: nobody
        was told what happened in them until now.
        """
        before = self._watch
        making = asyncio.ensure_future(
            asyncio.to_thread(_watch, self._path, directory, missing, before, self._step_s)
        )
        try:
            watch = await asyncio.shield(making)
        except OSError as error:
            self._lose(error)
            return
        except asyncio.CancelledError:
            # The thread goes on, and nobody else would close what it makes.
            with suppress(OSError):
                if (watch := await making) is not before:
                    watch.close()
            raise
        if watch is not before:
            self._end_watch()
            self._watch = watch
            listening = asyncio.create_task(self._listen(watch), name=f"watch {self._path.name}")
            self._listening.add(listening)
            listening.add_done_callback(self._listening.discard)
            self.wake()
        if self._unwatched:
            self._unwatched = False
            self._log.info("drop_rewatched")

    async def _listen(self, watch: Watch) -> None:
        try:
            while self._watch is watch and await watch.wait():
                self.wake()
        except OSError as error:
            self._log.debug("drop_watch_broken", problem=str(error))
            if self._watch is watch:
                self._end_watch()
            self.wake()  # the next scan makes another watch

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _lose(self, error: OSError) -> None:
        self._end_watch()
        if not self._unwatched:
            self._unwatched = True
            self.wake()  # a `wait` under way relies on the kernel
            self._log.error(
                "drop_not_watched",
                problem=error.strerror or str(error),
                hint="Raise fs.inotify.max_user_watches and max_user_instances (sysctl)",
                scans_every_s=self._rescan_s,
            )

    async def _woken_within(self, seconds: float | None) -> bool:
        if seconds is None:
            return await self._woken.wait()
        woken, pause = asyncio.ensure_future(self._woken.wait()), asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({woken, pause}, return_when=asyncio.FIRST_COMPLETED)
            return woken.done()
        finally:
            woken.cancel()
            pause.cancel()
            await asyncio.gather(woken, pause, return_exceptions=True)


def _watch(
    path: Path, directory: OpenDirectory | None, missing: Iterable[str], before: Watch | None, step_s: float
) -> Watch:
    """A watch of all that matters: the one `before`, if that watches the same folders. Raises: OSError."""
    with ExitStack() as opened:
        above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, above)
        folders: dict[int, Ignores | None] = {above: lambda name: name != path.name}
        if directory is not None:
            folders[directory.descriptor] = is_ignored
            for way in sorted({one.rpartition("/")[0] for one in missing} - {""}):
                chain = opened.enter_context(Chain(directory.descriptor))
                folders |= dict.fromkeys(chain.folders(way)[1:])
        return before if before is not None and before.covers(folders) else Watch(folders, step_s=step_s)
