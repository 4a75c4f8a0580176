"""The main process of a release that the agent started itself: the `Running` of the embedded service."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import structlog

from agent.host.embedded import orphans
from agent.host.embedded.runner import AppProcess
from agent.host.net.accepting import accepts
from agent.host.ports import Placed
from agent.host.run import process
from agent.host.storage import volatile

_log = structlog.get_logger()


class Main:
    """`Running`: a started release; a worker has no socket. A candidate's is `private`, and removed at its end.

    It is recorded in `folder` while it runs, gets `patience_s` seconds to end, and `gone` is called afterwards.
    After `dismiss`, its end begins `dismissal_s` seconds later.
    """

    def __init__(
        self,
        placed: Placed,
        child: process.Child | AppProcess,
        sock: socket.socket | None,
        *,
        address: str,
        folder: Path,
        private: Path | None,
        patience_s: float,
        dismissal_s: float,
        gone: Callable[["Main"], None],
    ) -> None:
        self.placed = placed
        self.address = address
        self.child = child
        self._socket = sock
        self._folder = folder
        self._private = private
        self._patience_s = patience_s
        self._dismissal_s = dismissal_s
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
        await asyncio.to_thread(self._clean_up)
        self._gone(self)

    def dismiss(self) -> None:
        # An idle candidate costs nothing, but its end costs half as much as a start. So it ends when the restart
        # that follows now has had the processor to itself.
        self._dismissal = asyncio.get_running_loop().call_later(self._dismissal_s, self._end_now)

    async def accepts(self) -> bool:
        return self._socket is not None and await asyncio.to_thread(accepts, self._socket)

    async def record(self) -> None:
        """Record it as a possible orphan: the parent-death signal may fail to end it with its agent."""
        try:
            await asyncio.to_thread(orphans.record, self._folder, self.child.pid)
        except OSError as error:
            # A full disk must not keep the app from running; only a second safeguard is missing.
            _log.warning("process_not_recorded", pid=self.child.pid, why=error.strerror)

    def _end_now(self) -> None:
        self._ending = asyncio.create_task(self.end())  # the loop itself holds tasks only weakly

    def _clean_up(self) -> None:
        orphans.forget(self._folder, self.child.pid)
        if self._private and self._socket:
            self._socket.close()
            volatile.remove(self._private)
