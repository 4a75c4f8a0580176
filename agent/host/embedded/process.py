"""The main process of a release that the agent itself started: the `Running` of the embedded service."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import structlog

from agent.host.embedded import orphans
from agent.host.net import sockets
from agent.host.ports import Placed
from agent.host.run import process

_DISMISSAL_S = 1.0

_log = structlog.get_logger()


class Main:
    """`Running`: a started release; a candidate, if its listening socket is `private` (and then goes with it).

    It is noted in `folder` while it runs, gets `patience_s` seconds to end, and `gone` is called when it is.
    """

    def __init__(
        self,
        placed: Placed,
        child: process.Child,
        sock: socket.socket,
        *,
        address: str,
        folder: Path,
        private: Path | None,
        patience_s: float,
        gone: Callable[["Main"], None],
    ) -> None:
        self.placed = placed
        self.address = address
        self.child = child
        self._socket = sock
        self._folder = folder
        self._private = private
        self._patience_s = patience_s
        self._gone = gone
        self._dismissal: asyncio.TimerHandle | None = None

    async def wait(self) -> str:
        return await self.child.wait()

    async def tail(self) -> str:
        return self.child.tail()

    async def end(self) -> None:
        if self._dismissal is not None:
            self._dismissal.cancel()
        await self.child.end(patience_s=self._patience_s)
        await asyncio.to_thread(self._tidy)
        self._gone(self)

    def dismiss(self) -> None:
        # An idle candidate costs nothing, its shutting down as much as half a start. So that comes when the
        # restart that is now going to follow has had the processor to itself.
        self._dismissal = asyncio.get_running_loop().call_later(_DISMISSAL_S, self._end_now)

    async def took_socket(self) -> bool:
        return await asyncio.to_thread(sockets.taken, self._socket)

    async def note(self) -> None:
        """So that the agent finds it again after being killed, should the parent-death signal not do."""
        try:
            await asyncio.to_thread(orphans.note, self._folder, self.child.pid)
        except OSError as error:
            # A full disk must not keep the app from running; what is missing is only a second safeguard.
            _log.warning("process_not_noted", pid=self.child.pid, why=error.strerror)

    def _end_now(self) -> None:
        self._ending = asyncio.create_task(self.end())  # kept, for the loop itself holds tasks weakly

    def _tidy(self) -> None:
        orphans.forget(self._folder, self.child.pid)
        if self._private:
            self._socket.close()
            self._private.unlink(missing_ok=True)
