"""The service of the embedded default: the agent itself is the parent of the app.

Invariant: the public listening socket is opened once and stays open over every restart and crash, so connections
wait in its backlog instead of failing. No app outlives its agent: the parent-death signal ends it, and if that
fails, the next agent does, by a record of every process.
"""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.core.backoff import Backoff
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
from agent.host.storage import volatile
from pusher.wire import Code, Failed, LogLine, LogUnit, Problem

_CANDIDATE_PATIENCE_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_POLL_S = 0.01

StartProcess = Callable[..., Awaitable[process.Child]]
"""Starts a process, as `process.start` does."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Delays:
    """Times in seconds that tests make short.

    A dismissed candidate ends after `dismissal_s`. An app that ran for longer than `stayed_up_s` is restarted
    after the shortest pause when it ends.
    """

    dismissal_s: float = 1.0
    stayed_up_s: float = 60.0


class Embedded:
    """`Service` for one app. The app's output goes to `line`, each line after the app's name.

    The default `line` writes to the agent's standard error. Call everything in the event loop of the main thread
    (see `process.start`).
    """

    def __init__(
        self,
        app: str,
        config: AppConfig,
        *,
        host: HostLayout,
        clock: Clock,
        line: Lines | None = None,
        start: StartProcess = process.start,
        delays: Delays = Delays(),
    ) -> None:
        self._app = app
        self._config = config
        self._host = host
        self._clock = clock
        self._line = line or write_line
        self._start_process = start
        self._delays = delays
        self._log = LogBuffer(clock)
        self._folder = host.run / app
        self._address = _beneath(host, config.listen)
        self._lock = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._socket: socket.socket | None = None
        self._serving: Main | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._others: set[Main] = set()  # candidates, and predecessors that still finish their requests
        self._endings: set[asyncio.Task[None]] = set()
        self._clean = False

    async def ready(self) -> None:
        """Always: this adapter needs nothing of the machine."""

    async def reserve(self) -> None:
        async with self._lock:
            await self._public()

    async def wanted(self) -> bool:
        """Always: root has no other way to disable the app than to stop the agent."""
        return True

    async def try_out(self, placed: Placed) -> Main:
        async with self._lock:
            await self._end_orphans()
            launch = await self._prepare(placed, preflight=True)
            path = self._folder / f"preflight-{next(self._numbers)}.sock"
            with _explained(placed):
                sock = await asyncio.to_thread(sockets.listen_unix, path, mode=0o600)
            try:
                main = await self._start(placed, launch, sock, private=path)
            except BaseException:
                sock.close()
                await asyncio.to_thread(volatile.remove, path)
                raise
            self._others.add(main)
            await main.record()
            return main

    async def restart(self, placed: Placed) -> Main:
        async with self._lock:
            sock = await self._public()
            launch = await self._prepare(placed, preflight=False)
            await self._stop_watching()
            before = self._serving
            try:
                if before is not None and not self._config.preflight:  # this app cannot run twice
                    await before.end()
                main = await self._start(placed, launch, sock)
            except BaseException:
                if before is not None:
                    self._watcher = asyncio.create_task(self._watch(before, sock))
                raise
            self._serving = main
            # Both accept from the one socket until the predecessor has noticed its TERM: no visitor has to wait
            # for its end, which takes gunicorn at least 0.1 s however idle it is.
            if before is not None:
                self._others.add(before)
                await asyncio.gather(main.record(), self._silence(before, sock))
            else:
                await main.record()
            self._watcher = asyncio.create_task(self._watch(main, sock))
            return main

    async def mend(self) -> None:
        """Nothing to do: this adapter has no state that could keep `restart` from working."""

    async def stop(self) -> None:
        async with self._lock:
            await self._stop_watching()
            await self._end_orphans()
            await asyncio.gather(*(main.end() for main in {*self._others, self._serving} if main is not None))
            await asyncio.gather(*self._endings)
            self._serving = None
            if self._socket is None:
                return
            self._socket.close()
            self._socket = None
            if self._address.startswith("unix:"):
                await asyncio.to_thread(volatile.remove, Path(self._address.removeprefix("unix:")))

    def running(self) -> Main | None:
        return self._serving if self._serving is not None and not self._serving.child.ended() else None

    def log(self, *, lines: int, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        return self._log.lines(lines, follow=follow, unit=unit)

    async def _silence(self, before: Main, sock: socket.socket) -> None:
        """Begin to end the predecessor; return when no new request can reach it, at the latest when it is gone.

        So none of its answers is mistaken for the successor's. Its complete end is not waited for: gunicorn checks
        only ten times a second whether its workers are gone.
        """
        ending = asyncio.create_task(before.end())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        while not ending.done() and await asyncio.to_thread(socket_holders.holds, before.child.pid, sock):
            await asyncio.wait([ending], timeout=_POLL_S)

    async def _public(self) -> socket.socket:
        await self._end_orphans()
        if self._socket is None:
            self._socket = await asyncio.to_thread(sockets.listen, self._address)
        return self._socket

    async def _end_orphans(self) -> None:
        """End what a killed agent left running: it still has the public socket open."""
        if self._clean:
            return
        found = await asyncio.to_thread(self._clean_folder)
        if found:
            _log.warning("orphans_ended", app=self._app, pids=found)
        self._clean = True

    def _clean_folder(self) -> list[int]:
        with _explained(None):
            volatile.make_folder(self._folder)
            found = orphans.end_recorded(self._folder, patience_s=self._config.drain_s)
            for path in self._folder.glob("preflight-*.sock"):
                volatile.remove(path)
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
            child = await self._start_process(
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
            # No request waits on a candidate: it only needs a moment to clean up.
            patience_s=min(drain_s, _CANDIDATE_PATIENCE_S) if private else drain_s,
            dismissal_s=self._delays.dismissal_s,
            gone=self._others.discard,
        )

    async def _watch(self, main: Main, sock: socket.socket) -> None:
        """Restart the app when it ends by itself, after pauses that grow while it does not stay up."""
        pauses = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            began = self._clock.elapsed()
            how = await main.wait()
            if self._clock.elapsed() - began > self._delays.stayed_up_s:
                pauses.reset()
            _log.warning("app_exited", app=self._app, release=main.placed.release, how=how, pause_s=pauses.coming)
            await main.end()
            successor: Main | None = None
            while successor is None:
                await self._clock.sleep(pauses.next())
                successor = await self._restart_ended(main.placed, sock)
            main = successor

    async def _restart_ended(self, placed: Placed, sock: socket.socket) -> Main | None:
        try:
            launch = await self._prepare(placed, preflight=False)
            main = self._serving = await self._start(placed, launch, sock)
        except Problem as problem:
            _log.error("app_not_started", app=self._app, release=placed.release, problem=str(problem))
            return None
        await main.record()
        return main

    async def _stop_watching(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
            self._watcher = None


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
