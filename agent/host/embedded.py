"""The service of the embedded default: the agent itself is the parent of the app.

Invariant: the public listening socket is opened once and stays open over every restart and crash, so that
connections wait in its backlog instead of failing; and no app outlives its agent (the parent-death signal, and
a note of every process for the agent that comes after one that was killed together with it).
"""

import asyncio
import itertools
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import structlog

from agent.core.config import AppConfig
from agent.core.layout import HostLayout
from agent.host import leftovers, process, sockets
from agent.host.launch import Launch, prepare_app
from agent.host.ports import Clock, Lines, Placed
from pusher.wire import Code, Failed, Problem

_CANDIDATE_PATIENCE_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _STAYED_UP_S = 1.0, 30.0, 60.0

_log = structlog.get_logger()


class Embedded:
    """`Service` for one app; what the app writes goes to `line`, each line behind the app's name.

    The default `line` writes to the agent's standard error. Everything must be called in the event loop of
    the main thread (see `process.start`).
    """

    def __init__(
        self, app: str, config: AppConfig, *, host: HostLayout, clock: Clock, line: Lines | None = None
    ) -> None:
        self._app = app
        self._config = config
        self._host = host
        self._clock = clock
        self._line = line or _to_stderr
        self._folder = host.run / app
        self._address = _beneath(host, config.listen)
        self._turn = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._socket: socket.socket | None = None
        self._serving: Main | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._others: set[Main] = set()  # candidates, and predecessors that still finish their requests
        self._clean = False

    async def reserve(self) -> None:
        async with self._turn:
            await self._public()

    async def try_out(self, placed: Placed) -> "Main":
        async with self._turn:
            await self._end_leftovers()
            launch = await self._prepare(placed, preflight=True)
            path = self._folder / f"preflight-{next(self._numbers)}.sock"
            sock = await asyncio.to_thread(sockets.listen_unix, path, mode=0o600)
            try:
                main = await self._start(placed, launch, sock, address=f"unix:{path}", private=path)
            except BaseException:
                sock.close()
                await asyncio.to_thread(path.unlink, missing_ok=True)
                raise
            self._others.add(main)
            await main.note()
            return main

    async def restart(self, placed: Placed) -> "Main":
        async with self._turn:
            sock = await self._public()
            launch = await self._prepare(placed, preflight=False)
            await self._stop_keeping()
            before, self._serving = self._serving, None
            if before is not None:
                self._others.add(before)
                if not self._config.preflight:  # this app cannot run twice
                    await before.end()
            main = self._serving = await self._start(placed, launch, sock, address=self._address)
            # From here on both accept from the one socket, until the one before has got its TERM.
            _, _ = await asyncio.gather(main.note(), before.end() if before else _nothing())
            self._keeper = asyncio.create_task(self._keep(main))
            return main

    async def mend(self) -> None:
        """Nothing of this adapter can be in the way of a restart."""

    async def stop(self) -> None:
        async with self._turn:
            await self._stop_keeping()
            await self._end_leftovers()
            running = [*self._others, *([self._serving] if self._serving else [])]
            await asyncio.gather(*(main.end() for main in running))
            self._serving = None
            if self._socket is not None:
                self._socket.close()
                self._socket = None
                if self._address.startswith("unix:"):
                    path = Path(self._address.removeprefix("unix:"))
                    await asyncio.to_thread(path.unlink, missing_ok=True)

    def running(self) -> "Main | None":
        return self._serving if self._serving and not self._serving.child.ended() else None
