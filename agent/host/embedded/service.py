"""The service of the embedded default: the agent itself is the parent of the app.

Invariant: the public listening socket is opened once and stays open over every restart and crash, so connections
wait in its backlog instead of failing. The release that serves it runs under the runner, as on a server. No app
outlives its agent: the parent-death signal ends it, and if that fails, the next agent does, by a record of every
process.
"""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from agent.core.backoff import Backoff
from agent.core.config.app import AppConfig
from agent.core.layout import HostLayout
from agent.host.embedded import orphans
from agent.host.embedded.log_buffer import LogBuffer
from agent.host.embedded.process import Main
from agent.host.embedded.runner import AppProcess, RunnerProcess
from agent.host.log.stderr import write_line
from agent.host.net import sockets
from agent.host.ports import Clock, Lines, Placed
from agent.host.run import process
from agent.host.run.ended import ended
from agent.host.run.launch import Launch, find_start, prepare_candidate, prepare_runner
from agent.host.storage import volatile
from pusher.wire import Code, Failed, LogLine, LogUnit, Problem

_CANDIDATE_PATIENCE_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_RUNNER_S = 30.0

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
        log: LogBuffer | None = None,
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
        self._log = log or LogBuffer(clock)
        self._folder = host.run / app
        self._address = _beneath(host, config.listen)
        self._lock = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._socket: socket.socket | None = None
        self._serving: Main | None = None
        self._runner: RunnerProcess | None = None
        self._started_with: Launch | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._others: set[Main] = set()  # candidates
        self._clean = False
        self.restarts = 0

    async def ready(self) -> None:
        """Always: this adapter needs nothing of the machine."""

    async def reserve(self) -> None:
        async with self._lock:
            await self._public()

    async def unreserve(self) -> None:
        if self.running() is None:
            await self.stop()

    async def wanted(self) -> bool:
        """Always: root has no other way to disable the app than to stop the agent."""
        return True

    async def outage(self) -> str:
        """Nothing: only the agent starts and stops the app here, and says itself why that did not work."""
        return ""

    async def ending(self) -> bool:
        """Never, as far as this adapter knows: its apps end after the agent, not beside it."""
        return False

    def adopt(self, config: AppConfig) -> None:
        self._config = config

    async def try_out(self, placed: Placed) -> Main:
        async with self._lock:
            await self._end_orphans()
            launch = await self._prepare(placed)
            path = self._folder / f"preflight-{next(self._numbers)}.sock"
            with _explained(placed):
                sock = await _listen_privately(path)
            try:
                main = await self._start_candidate(placed, launch, sock, path)
            except BaseException:
                sock.close()
                await asyncio.to_thread(volatile.remove, path)
                raise
            self._others.add(main)
            try:
                await main.record()
            except BaseException:
                # Cancelled: nobody would learn of it, and end it.
                await main.end()
                raise
            return main

    async def restart(self, placed: Placed) -> Main:
        async with self._lock:
            sock = await self._public()
            await asyncio.to_thread(find_start, placed.run.start, release=placed.path)
            await self._stop_watching()
            before = self._serving
            try:
                main = await self._change_over(placed, sock, before=before)
            except BaseException:
                if before is not None:
                    self._watcher = asyncio.create_task(self._watch(before, sock))
                raise
            self._serving = main
            self._watcher = asyncio.create_task(self._watch(main, sock))
            return main

    async def mend(self) -> None:
        """Nothing to do: this adapter has no state that could keep `restart` from working."""

    async def stop(self) -> None:
        async with self._lock:
            await self._stop_watching()
            await self._end_orphans()
            await asyncio.gather(*(main.end() for main in {*self._others, self._serving} if main is not None))
            self._serving = self._runner = None
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

    async def _change_over(self, placed: Placed, sock: socket.socket, *, before: Main | None) -> Main:
        """Have `placed` serve: by a reload of the runner, or by a new runner if the one there cannot do it."""
        # A reload changes neither environment nor options of the runner.
        changed = _unreported(await self._prepare_runner(placed, report=0)) != self._started_with
        runner = self._runner
        if before is None or runner is None or before.child.ended() or changed:
            if before is not None:
                await before.end()
            return await self._start_runner(placed, sock)
        status = await runner.reload(deadline_s=self._deadline_s(placed))
        if status is None or status.problem or status.release != placed.release:
            why = status.problem if status and status.problem else "the runner did not change over to it"
            raise ended(placed, why=why, written="\n".join(runner.tail))
        return await self._app_of(runner, placed, sock)

    async def _start_runner(self, placed: Placed, sock: socket.socket) -> Main:
        if self._runner is not None and not self._runner.child.ended():  # somebody else has let it reload
            await self._runner.child.end(patience_s=self._config.drain_s)
        with _explained(placed):
            runner = RunnerProcess()
        try:
            launch = await self._prepare_runner(placed, report=runner.theirs.fileno())
            with _explained(placed):
                child = await self._start_process(
                    launch.argv,
                    folder=launch.folder,
                    environment=launch.environment,
                    line=partial(self._hear, runner),
                    stdin=sock.fileno(),
                    pass_fds=[runner.theirs.fileno()],
                )
        except BaseException:
            runner.close()
            raise
        runner.attach(child)
        self._runner, self._started_with = runner, _unreported(launch)
        try:
            status = await runner.ready(deadline_s=self._deadline_s(placed))
            if status is None or status.release != placed.release:
                how = await child.end(patience_s=self._config.drain_s)
                raise Failed(
                    Code.SERVICE_FAILED,
                    f"Release {placed.release} could not be started",
                    why=f"`current` points at {status.release}" if status else f"its runner ended: {how}",
                    output=child.tail(),
                )
            return await self._app_of(runner, placed, sock)
        except BaseException:
            # Cancelled as well, by a restart or a stop: until this returns, nobody else knows the process.
            self._runner = None
            await child.end(patience_s=self._config.drain_s)
            raise

    async def _app_of(self, runner: RunnerProcess, placed: Placed, sock: socket.socket) -> Main:
        """What the runner started, recorded: it and the runner are a process group each."""
        assert runner.status is not None  # noqa: S101 - it is ready
        for pid in (runner.child.pid, runner.status.pid):
            await self._record(pid)
        return Main(
            placed,
            AppProcess(runner, runner.status.pid, gone=self._forget),
            sock,
            address=self._address,
            folder=self._folder,
            private=None,
            patience_s=self._config.drain_s,
            dismissal_s=self._delays.dismissal_s,
            gone=self._others.discard,
        )

    def _deadline_s(self, placed: Placed) -> float:
        return placed.run.health.deadline_s + self._config.drain_s + _RUNNER_S

    async def _prepare_runner(self, placed: Placed, *, report: int) -> Launch:
        prepare = partial(prepare_runner, host=self._host, report=report)
        return await asyncio.to_thread(prepare, self._app, self._config, placed)

    def _hear(self, runner: RunnerProcess, text: str) -> None:
        runner.tail.append(text)
        self._log.add(LogUnit.SERVICE, text)
        self._line(f"{self._app} | {text}")

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

    async def _prepare(self, placed: Placed) -> Launch:
        prepare = partial(prepare_candidate, host=self._host)
        return await asyncio.to_thread(prepare, self._app, self._config, placed)

    async def _start_candidate(self, placed: Placed, launch: Launch, sock: socket.socket, private: Path) -> Main:
        def heard(text: str) -> None:
            self._log.add(LogUnit.PREFLIGHT, text)
            self._line(f"{self._app} (preflight) | {text}")

        with _explained(placed):
            child = await self._start_process(
                launch.argv,
                folder=launch.folder,
                environment=launch.environment,
                line=heard,
                stdin=sock.fileno(),
            )
        return Main(
            placed,
            child,
            sock,
            address=f"unix:{private}",
            folder=self._folder,
            private=private,
            # No request waits on a candidate: it only needs a moment to clean up.
            patience_s=min(self._config.drain_s, _CANDIDATE_PATIENCE_S),
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
            self.restarts += 1
            _log.warning("app_exited", app=self._app, release=main.placed.release, how=how, pause_s=pauses.coming)
            await main.end()
            successor: Main | None = None
            while successor is None:
                await self._clock.sleep(pauses.next())
                successor = await self._restart_ended(main.placed, sock)
            main = successor

    async def _restart_ended(self, placed: Placed, sock: socket.socket) -> Main | None:
        try:
            main = self._serving = await self._start_runner(placed, sock)
        except Problem as problem:
            _log.error("app_not_started", app=self._app, release=placed.release, problem=str(problem))
            return None
        return main

    async def _record(self, pid: int) -> None:
        """Record a possible orphan: the parent-death signal may fail to end it with its agent."""
        try:
            await asyncio.to_thread(orphans.record, self._folder, pid)
        except OSError as error:
            # A full disk must not keep the app from running; only a second safeguard is missing.
            _log.warning("process_not_recorded", pid=pid, why=error.strerror)

    async def _forget(self, pid: int) -> None:
        await asyncio.to_thread(orphans.forget, self._folder, pid)

    async def _stop_watching(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
            self._watcher = None


def _unreported(launch: Launch) -> Launch:
    """The same, but for the socket that the runner reports to: each runner has its own."""
    return replace(launch, argv=tuple(one for one in launch.argv if not one.startswith("--report=")))


async def _listen_privately(path: Path) -> socket.socket:
    """A candidate's socket. A cancelled caller leaves none open. Raises: OSError."""
    opening = asyncio.ensure_future(asyncio.to_thread(sockets.listen_unix, path, mode=0o600))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait([opening])
        if opening.exception() is None:
            opening.result().close()
            await asyncio.to_thread(volatile.remove, path)
        raise


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
