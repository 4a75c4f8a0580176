"""When to look at a drop directory again: the kernel tells, or else the time.

Invariant: whatever may have changed wakes. A look too many comes to the same; one too few would leave somebody
waiting. No timer runs but for what the kernel cannot tell of.
"""

import asyncio
from collections.abc import Iterable
from contextlib import ExitStack

import structlog

from agent.core.drop import concerns_nobody, longer
from agent.host.drop.folder import Chain, Dropbox
from agent.host.drop.inotify import Names, Watches
from agent.host.ports import Clock


class Wakeup:
    """What wakes the door of one drop directory. Without watches it looks every `rescan_s` seconds.

    `log` takes that the kernel does not tell any more, or does again.
    """

    def __init__(self, log: structlog.stdlib.BoundLogger, *, rescan_s: float, clock: Clock) -> None:
        self._log = log
        self._rescan_s = rescan_s
        self._clock = clock
        self._pause = 0.0
        self._watches: Watches | None = None
        self._woken = asyncio.Event()
        self._blind = False

    def open(self) -> None:
        """Have the kernel wake us. If it does not, that is said loudly, and we look now and then."""
        try:
            self._watches = Watches()
        except OSError as error:
            self._lose(error)
            return
        asyncio.get_running_loop().add_reader(self._watches.descriptor, self._heard, self._watches)

    def close(self) -> None:
        """Have nothing wake us any more. Idempotent."""
        if self._watches is not None:
            asyncio.get_running_loop().remove_reader(self._watches.descriptor)
            self._watches.close()
            self._watches = None

    def wake(self) -> None:
        """End the `wait`, this one or the next."""
        self._woken.set()

    def clear(self) -> bool:
        """Note that a look begins: what happened up to now, it sees. Whether something did."""
        woken = self._woken.is_set()
        self._woken.clear()
        return woken

    async def wait(self, *, well: bool, untold: bool) -> None:
        """Return when something may be another; soon, if the last look did not go `well`.

        While the end of what is waited for is `untold` by any event, also after pauses, each longer than the last.
        """
        self._pause = (self._pause or longer(0)) if untold else 0.0
        # Nobody tells when the kernel has watches again, or the folder can be read.
        pauses = [self._rescan_s] if self._watches is None or not well else []
        pauses += [self._pause] if untold else []
        if not await self._woken_within(min(pauses, default=None)) and untold:
            self._pause = longer(self._pause)
        if self._watches is None:
            self.open()

    async def watch(self, box: Dropbox, lacks: Iterable[str]) -> None:
        """Watch the folder itself, and what is on the way to what is lacking (paths in it), and nothing else."""
        if self._watches is None:
            return
        try:
            if await asyncio.to_thread(_watch, box, self._watches, lacks):
                self.wake()  # what came into a folder before it was watched woke nobody
        except OSError as error:
            self._lose(error)
            return
        if self._blind:
            self._blind = False
            self._log.info("drop_watched_again")

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

    def _heard(self, watches: Watches) -> None:
        if watches.heard(passing=concerns_nobody):
            self.wake()

    def _lose(self, error: OSError) -> None:
        self.close()
        if not self._blind:
            self._blind = True
            self.wake()  # whoever waits for the kernel is to wait for the time instead
            self._log.error(
                "drop_not_watched",
                problem=error.strerror,
                hint="Raise fs.inotify.max_user_watches and max_user_instances (sysctl)",
                looks_every_s=self._rescan_s,
            )


def _watch(box: Dropbox, watches: Watches, lacks: Iterable[str]) -> bool:
    """Whether some of it is new."""
    with ExitStack() as chains:
        folders: list[tuple[int, Names]] = [(box.folder, None)]
        for names in [path.split("/") for path in lacks if path]:
            way = chains.enter_context(Chain(box.folder)).folders("/".join(names[:-1]))
            folders += [(folder, frozenset({name})) for folder, name in zip(way, names, strict=False)]
        return watches.only(folders)
