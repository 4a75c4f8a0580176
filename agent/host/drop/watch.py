"""Folders that are watched for changes: inotify(7), by `inotify_simple`.

Invariant: a change is a hint and nothing more. It makes the agent scan, and the scan decides by content. The name
in an event serves one purpose: to ignore names that cannot matter.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from inotify_simple import INotify, flags

STEP_S = 0.1
"""How long nothing more may be added before a change is reported."""
_MOST_STEPS = 10
"""A change is reported after so many steps even if more are added all the time."""
_SILENT_S = 600
"""A change is assumed after this time: of a folder on another machine (NFS), the kernel reports only its own."""
_CHANGES = (
    flags.CREATE
    | flags.MOVED_TO
    | flags.MODIFY
    | flags.CLOSE_WRITE
    | flags.ATTRIB
    | flags.MOVED_FROM
    | flags.DELETE
    | flags.DELETE_SELF
    | flags.MOVE_SELF
)

Ignores = Callable[[str], bool]
"""Whether a name in a folder cannot matter."""


class Watch:
    """Watches open folders, given by their descriptors, from now on until it is closed.

    Descriptors, because a path may lead elsewhere a moment later. Not the folders inside them.

    Raises: OSError, also when the kernel gives this user no more watches.
    """

    def __init__(self, folders: Mapping[int, Ignores | None], *, step_s: float = STEP_S) -> None:
        self._step_s = step_s
        self._waiting: asyncio.Future[None] | None = None
        self._open: list[int] = []
        self._inotify = INotify(nonblocking=True)
        try:
            # Kept open, so that no later folder gets the inode number of one of these, and is taken for it.
            self._open += (os.dup(folder) for folder in folders)
            self._identities = _identities(self._open)
            self._ignores = {
                self._inotify.add_watch(f"/proc/self/fd/{folder}", _CHANGES | flags.ONLYDIR): ignores
                for folder, ignores in folders.items()
            }
        except OSError:
            self.close()
            raise

    def covers(self, folders: Iterable[int]) -> bool:
        """Whether it watches exactly these folders."""
        return _identities(folders) == self._identities

    async def wait(self) -> bool:
        """Return true when something may have changed, false when it is closed. One `wait` at a time.

        Raises: OSError, if this watch is broken: make another one.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_SILENT_S):
                await self._changed()
        return not self._inotify.closed

    def close(self) -> None:
        """End `wait`, and give the kernel its watch back. Idempotent."""
        self._woken()
        self._inotify.close()
        while self._open:
            os.close(self._open.pop())

    async def _readable(self) -> bool:
        """Return true when there are events, false when it is closed."""
        if not self._inotify.closed:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            loop.add_reader(self._inotify.fileno(), self._woken)
            try:
                await self._waiting
            finally:
                self._woken()
        return not self._inotify.closed

    def _woken(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.get_loop().remove_reader(self._inotify.fileno())
            if not waiting.done():
                waiting.set_result(None)

    async def _changed(self) -> None:
        """Return when something that matters has changed, and nothing more was added for a step."""
        while await self._readable():
            changed = self._read()
            # Also for what is ignored: a file that is being written makes thousands of events a second.
            await asyncio.sleep(self._step_s)
            if changed:
                break
        for _ in range(_MOST_STEPS - 1):
            if not self._read():
                return
            await asyncio.sleep(self._step_s)

    def _read(self) -> bool:
        """Whether anything that matters is among the events since the last call."""
        if self._inotify.closed:
            return False
        return any(self._matters(event.wd, event.name) for event in self._inotify.read(timeout=0))

    def _matters(self, watch: int, name: str) -> bool:
        # No name: the folder itself, or the kernel's queue was full, and nobody knows what was lost.
        ignores = self._ignores.get(watch)
        return not name or ignores is None or not ignores(name)


def _identities(folders: Iterable[int]) -> set[tuple[int, int]]:
    return {(state.st_dev, state.st_ino) for state in map(os.fstat, folders)}
