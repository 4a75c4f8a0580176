"""The service of the embedded default: the agent itself is the parent of the app.

Invariant: the public listening socket is opened once and stays open over every restart and crash, so that
connections wait in its backlog instead of failing; and no app outlives its agent (the parent-death signal,
and should that not do, a note of every process for the agent that comes next).
"""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from agent.core.config import AppConfig
from agent.core.layout import HostLayout
from agent.host.embedded import orphans
from agent.host.embedded.log_buffer import LogBuffer
from agent.host.embedded.process import Main
from agent.host.log.stderr import write_line
from agent.host.net import socket_holders, sockets
from agent.host.ports import Clock, Lines, Placed
from agent.host.run import process
from agent.host.run.launch import Launch, prepare_app
from pusher.wire import Code, Failed, LogLine, LogUnit, Problem

_CANDIDATE_PATIENCE_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _STAYED_UP_S = 1.0, 30.0, 60.0
_LOOK_AGAIN_S = 0.01

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
        self._line = line or write_line
        self._log = LogBuffer(clock)
        self._folder = host.run / app
        self._address = _beneath(host, config.listen)
        self._turn = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._socket: socket.socket | None = None
        self._serving: Main | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._others: set[Main] = set()  # candidates, and predecessors that still finish their requests
        self._endings: set[asyncio.Task[None]] = set()
        self._clean = False

    async def ready(self) -> None:
        """What this adapter needs, it has itself."""

    async def reserve(self) -> None:
        async with self._turn:
            await self._public()

    async def wanted(self) -> bool:
        """Always: it has no life but the agent's."""
        return True

    async def try_out(self, placed: Placed) -> Main:
        async with self._turn:
            await self._end_leftovers()
            launch = await self._prepare(placed, preflight=True)
            path = self._folder / f"preflight-{next(self._numbers)}.sock"
            with _explained(placed):
                sock = await asyncio.to_thread(sockets.listen_unix, path, mode=0o600)
            try:
                main = await self._start(placed, launch, sock, private=path)
            except BaseException:
                sock.close()
                await asyncio.to_thread(path.unlink, missing_ok=True)
                raise
            self._others.add(main)
            await main.note()
            return main

    async def restart(self, placed: Placed) -> Main:
        async with self._turn:
            sock = await self._public()
            launch = await self._prepare(placed, preflight=False)
            await self._stop_keeping()
            before = self._serving
            try:
                if before is not None and not self._config.preflight:  # this app cannot run twice
                    await before.end()
                main = await self._start(placed, launch, sock)
            except BaseException:
                if before is not None:
                    self._keeper = asyncio.create_task(self._keep(before, sock))
                raise
            self._serving = main
            # Both accept from the one socket until the one before has noticed its TERM: nobody has to wait
            # for its end, which takes gunicorn at least 0.1 s however idle it is.
            if before is not None:
                self._others.add(before)
                await asyncio.gather(main.note(), self._silence(before, sock))
            else:
                await main.note()
            self._keeper = asyncio.create_task(self._keep(main, sock))
            return main

    async def mend(self) -> None:
        """Nothing of this adapter can be in the way of a restart."""

    async def stop(self) -> None:
        async with self._turn:
            await self._stop_keeping()
            await self._end_leftovers()
            await asyncio.gather(*(main.end() for main in {*self._others, self._serving} if main is not None))
            await asyncio.gather(*self._endings)
            self._serving = None
            if self._socket is None:
                return
            self._socket.close()
            self._socket = None
            if self._address.startswith("unix:"):
                await asyncio.to_thread(Path(self._address.removeprefix("unix:")).unlink, missing_ok=True)

    def running(self) -> Main | None:
        return self._serving if self._serving is not None and not self._serving.child.ended() else None

    def log(self, *, lines: int, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        return self._log.lines(lines, follow=follow, unit=unit)

    async def _silence(self, before: Main, sock: socket.socket) -> None:
        """Tell it to end; return when no new request can reach it, at the latest when it is gone.

        So no answer of its own is taken for the successor's. The rest of its end needs no waiting for: gunicorn
        looks only ten times a second whether its workers are gone.
        """
        ending = asyncio.create_task(before.end())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        while not ending.done() and await asyncio.to_thread(socket_holders.holds, before.child.pid, sock):
            await asyncio.wait([ending], timeout=_LOOK_AGAIN_S)

    async def _public(self) -> socket.socket:
        await self._end_leftovers()
        if self._socket is None:
            self._socket = await asyncio.to_thread(sockets.listen, self._address)
        return self._socket

    async def _end_leftovers(self) -> None:
        """What an agent that was killed left running still has the public socket open."""
        if self._clean:
            return
        found = await asyncio.to_thread(self._tidy_folder)
        if found:
            _log.warning("leftovers_ended", app=self._app, pids=found)
        self._clean = True

    def _tidy_folder(self) -> list[int]:
        with _explained(None):
            self._folder.mkdir(parents=True, exist_ok=True)
            found = orphans.end_noted(self._folder, patience_s=self._config.drain_s)
            for path in self._folder.glob("preflight-*.sock"):
                path.unlink()
        return found

    async def _prepare(self, placed: Placed, *, preflight: bool) -> Launch:
        return await asyncio.to_thread(
            prepare_app, self._app, self._config, placed, host=self._host, preflight=preflight
        )

    async def _start(
        self, placed: Placed, launch: Launch, sock: socket.socket, *, private: Path | None = None
    ) -> Main:
        name, unit = (f"{self._app} (preflight)", LogUnit.PREFLIGHT) if private else (self._app, LogUnit.SERVICE)

        def heard(text: str) -> None:
            self._log.add(unit, text)
            self._line(f"{name} | {text}")

        with _explained(placed):
            child = await process.start(
                launch.argv,
                folder=launch.folder,
                environment=launch.environment,
                line=heard,
                stdin=sock.fileno(),
            )
        drain_s = self._config.drain_s
        return Main(
            placed,
            child,
            sock,
            address=f"unix:{private}" if private else self._address,
            folder=self._folder,
            private=private,
            # Nobody's request waits on a candidate: what it needs is a moment to put its own things away.
            patience_s=min(drain_s, _CANDIDATE_PATIENCE_S) if private else drain_s,
            gone=self._others.discard,
        )

    async def _keep(self, main: Main, sock: socket.socket) -> None:
        """Start the app again when it ends by itself, after pauses that grow while it does not stay up."""
        pause = _FIRST_PAUSE_S
        while True:
            began = self._clock.elapsed()
            how = await main.wait()
            _log.warning("app_exited", app=self._app, release=main.placed.release, how=how, pause_s=pause)
            await main.end()
            if self._clock.elapsed() - began > _STAYED_UP_S:
                pause = _FIRST_PAUSE_S
            again: Main | None = None
            while again is None:
                await self._clock.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                again = await self._start_again(main.placed, sock)
            main = again

    async def _start_again(self, placed: Placed, sock: socket.socket) -> Main | None:
        try:
            launch = await self._prepare(placed, preflight=False)
            main = self._serving = await self._start(placed, launch, sock)
        except Problem as problem:
            _log.error("app_not_started", app=self._app, release=placed.release, problem=str(problem))
            return None
        await main.note()
        return main

    async def _stop_keeping(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            self._keeper = None


@contextmanager
def _explained(placed: Placed | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failed(
            Code.SERVICE_FAILED,
            f"Release {placed.release} could not be started" if placed else "The app could not be started",
            why=str(error),
        ) from error


def _beneath(host: HostLayout, listen: str) -> str:
    return f"unix:{host.beneath(listen.removeprefix('unix:'))}" if listen.startswith("unix:") else listen
