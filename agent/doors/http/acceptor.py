"""Accepting connections: each caller is identified and counted before anything of the connection is read.

Invariant: one connection never keeps another waiting, and no connection stays that nobody counts.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from functools import partial

import structlog
from aiohttp import web

from agent.doors.http.arrivals import asks_nothing, dismiss, next_connection
from agent.doors.http.callers import Callers
from agent.doors.http.connections import Connection
from agent.doors.http.limits import DoorLimits
from agent.doors.http.quota import ConnectionQuota, TooMany
from agent.doors.refusals import Refusals
from agent.host.net.peer import Caller

_DROPPED_AT_ONCE = 32
"""How many connections are dropped before anything else has its turn."""

_log = structlog.get_logger()


class Acceptor:
    """Accepts connections for an HTTP server. Callers that are not known at once are identified in `threads`."""

    def __init__(
        self,
        server: web.Server,
        *,
        callers: Callers,
        quota: ConnectionQuota,
        limits: DoorLimits,
        refusals: Refusals,
        threads: Executor,
    ) -> None:
        self._server = server
        self._callers = callers
        self._quota = quota
        self._limits = limits
        self._refusals = refusals
        self._threads = threads
        self._accepting: list[asyncio.Task[None]] = []
        self._admitting: set[asyncio.Task[None]] = set()

    def begin(self, listener: socket.socket, hosts: frozenset[str]) -> None:
        """Accept what comes to `listener`, until `stop`. `hosts` are the `Host` values that requests may have."""
        self._accepting.append(asyncio.create_task(self._accept(listener, hosts)))

    async def stop(self) -> None:
        """Accept nothing more. What was accepted goes on."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)

    async def settled(self) -> None:
        """Return when every connection that was accepted is served, or dropped."""
        await asyncio.gather(*self._admitting, return_exceptions=True)

    async def _accept(self, listener: socket.socket, hosts: frozenset[str]) -> None:
        listener.setblocking(False)
        dropped = 0
        while True:
            try:
                sock = await next_connection(listener)
            except OSError as error:  # too many open files, most likely
                _log.warning("accept_failed", error=str(error))
                await asyncio.sleep(self._limits.accept_retry_s)
                continue
            if (admission := self._admission(sock, hosts)) is None:
                if (dropped := dropped + 1) % _DROPPED_AT_ONCE == 0:
                    await asyncio.sleep(0)
                continue
            # In a task of its own, so that one slow look-up does not keep others waiting.
            task = asyncio.create_task(admission)
            self._admitting.add(task)
            task.add_done_callback(self._admitting.discard)
            if len(self._admitting) >= self._limits.lookups:
                await asyncio.wait(self._admitting, return_when=asyncio.FIRST_COMPLETED)

    def _admission(self, sock: socket.socket, hosts: frozenset[str]) -> Coroutine[None, None, None] | None:
        """What has to be done until a connection is served; None if it was dropped."""
        if asks_nothing(sock):
            sock.close()
            return None
        if (known := self._callers.known(sock)) is None:
            return self._admit(sock, hosts)
        closed = self._counted(sock, *known)
        return self._connect(sock, known[0], hosts, closed) if closed is not None else None

    async def _admit(self, sock: socket.socket, hosts: frozenset[str]) -> None:
        """Identify the caller, and only then let anything of the connection be read."""
        caller, operator = await asyncio.get_running_loop().run_in_executor(
            self._threads, partial(self._callers.identify, sock)
        )
        if (closed := self._counted(sock, caller, operator)) is not None:
            await self._connect(sock, caller, hosts, closed)

    def _counted(self, sock: socket.socket, caller: Caller, operator: bool) -> Callable[[], None] | None:
        """Count a connection; call the result when it is closed. None: it was one too many, and is gone."""
        try:
            return self._quota.take(caller.uid, operator=operator)
        except TooMany as problem:
            # The agent may open a limited number of files: others must not leave none for a deployment.
            _log.debug("connection_refused", caller=caller.name, why=problem.why)  # each; the log keeps some
            self._refusals.note(problem, door="http", caller=caller.name)
            dismiss(sock, problem)
            return None

    async def _connect(
        self,
        sock: socket.socket,
        caller: Caller,
        hosts: frozenset[str],
        closed: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        connection = Connection(
            self._server,
            caller=caller,
            hosts=hosts,
            loop=loop,
            idle_s=self._limits.idle_s,
            closed=closed,
            refusals=self._refusals,
        )
        try:
            await loop.connect_accepted_socket(lambda: connection, sock)
        except BaseException:
            closed()
            sock.close()
            raise
