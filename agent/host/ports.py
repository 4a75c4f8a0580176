"""The ports: what the steps need of a machine, and nothing more.

Each port has a real adapter in a wing of this folder for each kind of machine, and a simulated one in the tests.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.core.config.app import AppConfig
from agent.core.run import Run
from pusher.wire import LogLine, Manifest, Refused

Lines = Callable[[str], None]
"""Receives one line of output, without its newline."""


class Clock(Protocol):
    """The time. Deadlines are measured by `elapsed`: no change of the clock moves it."""

    def now(self) -> int:
        """Milliseconds since 1970, UTC."""
        ...

    def elapsed(self) -> float:
        """Seconds since a fixed moment of this boot; never goes back."""
        ...

    def sleep(self, seconds: float) -> Awaitable[None]: ...


class Bundle(Protocol):
    """What came in through a door: read once, front to back, by blocking calls in a thread.

    Nothing in it is trusted: names and sizes are what the sender claims.
    """

    def signed_manifest(self) -> tuple[bytes, bytes]:
        """The manifest and its signature, within their limits. Raises: Refused."""
        ...

    def verified(self, manifest: Manifest) -> None:
        """The signature of `manifest` holds: from now on, a bundle of its sizes may be read."""
        ...

    def index(self, size: int) -> Iterator[bytes]:
        """The lines of the index, which must have `size` bytes in all. Raises: Refused."""
        ...

    def files(self) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        """Path, claimed size and content of each file. Read a content to its end before the next file.

        Raises: Refused, for a malformed bundle or a member that is no regular file; Failed, for a broken upload.
        """
        ...


@dataclass(frozen=True, slots=True)
class Placed:
    """A release on disk; `path` is its own folder, never `current`. `run` is how it runs."""

    release: str
    version: str
    path: Path
    run: Run = field(default_factory=Run)


class Running(Protocol):
    """A started release: the app's main process."""

    placed: Placed
    address: str
    """The address it serves: `host:port`, `[v6]:port`, or `unix:/path`."""

    async def wait(self) -> str:
        """Wait until the main process has ended. Returns how ("exit code 3", "signal 9 (KILL)"). Never raises."""
        ...

    async def tail(self) -> str:
        """The last lines it wrote, newline-separated. Never raises."""
        ...

    async def end(self) -> None:
        """End it and everything it started: TERM first, KILL later. Returns when it is gone."""
        ...

    def dismiss(self) -> None:
        """As `end`, but return at once: for a candidate that did well. `Service.stop` waits for its end."""
        ...

    async def accepts(self) -> bool:
        """Whether it accepts from the socket it was handed. Asked while a connection to it stays unanswered."""
        ...


class Differs(Refused):
    """The configuration in force is not that of the files any more. A rollback uses the one in force."""


class Service(Protocol):
    """Keeps one app running, and hands it the public listening socket (sd_listen_fds(3))."""

    async def ready(self) -> None:
        """Check that a deployment can begin. Raises: Refused(configuration, service_failed); Differs, if only
        the files have changed."""
        ...

    async def reserve(self) -> None:
        """Open the public socket, or check that it can be opened. Raises: Refused(port_taken, configuration)."""
        ...

    async def unreserve(self) -> None:
        """Close what `reserve` has opened, if nothing serves it. The old app of one that is taken over runs on."""
        ...

    async def wanted(self) -> bool:
        """Whether the app should run without being asked to: root may have disabled it.

        Raises: Failed(service_failed).
        """
        ...

    async def outage(self) -> str:
        """Why nothing of the app serves, and what to do; empty if something does, or is about to. What was started
        without the agent is found first. Raises: Failed(service_failed)."""
        ...

    async def ending(self) -> bool:
        """Whether the host is going down, and its apps with it: what fails now says nothing about a release."""
        ...

    def adopt(self, config: AppConfig) -> None:
        """Use this configuration from the next start on. Its address, folder and user are those of now."""
        ...

    async def try_out(self, placed: Placed) -> Running:
        """Start a candidate on a private unix socket. Raises: Failed(start_not_found, service_failed)."""
        ...

    async def restart(self, placed: Placed) -> Running:
        """Let `placed` serve the public socket; the release before it has `drain_s` seconds to finish.

        Returns when the new main process was started (not: when it answers) and no new request can reach the
        release before it. Raises: Failed(start_not_found, service_failed).
        """
        ...

    async def mend(self) -> None:
        """Clear what would keep `restart` from working: a failed state, a socket that is down."""
        ...

    async def stop(self) -> None:
        """End everything that runs, and close the public socket. Idempotent."""
        ...

    def running(self) -> Running | None:
        """The release that serves the public socket now, if any."""
        ...

    @property
    def restarts(self) -> int:
        """How often the app has ended by itself and was to be started again, since the agent began to watch it."""
        ...

    def log(self, *, lines: int, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        """The app's last `lines` lines, oldest first; with `follow`, then every new one, without an end.

        With `unit` (a `LogUnit`), only of this unit. Closing it early leaves nothing behind, and a slow reader
        holds up nothing. Raises: Failed(service_failed), while it is read.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """A process that runs always, as it is now. `release` is the one it runs; `why` says why it does not run."""

    name: str
    running: bool
    release: str = ""
    pid: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerState:
    """A timer. `last` and `next` are when it runs (ms since 1970), `ending` how its last run ended: "" if not yet.

    `running`: it runs now.
    """

    name: str
    schedule: str
    running: bool = False
    last: int | None = None
    next: int | None = None
    ending: str = ""


class SideProcesses(Protocol):
    """Keeps what runs beside the process that serves an app: its workers, and its timers."""

    @property
    def any(self) -> bool:
        """Whether the app has a worker or a timer at all."""
        ...

    def adopt(self, config: AppConfig) -> None:
        """Use this configuration from the next `run` on."""
        ...

    async def ready(self) -> None:
        """Check that the schedules can be read here. Raises: Refused(configuration)."""
        ...

    async def run(self, placed: Placed) -> Mapping[str, Running]:
        """Let every process run `placed`, which is live, and set the timers. One that does already goes on.

        The others are ended first (their own `drain_s`, then KILL). Returns what runs, by name, when all were
        started, not when they are well. Those that root has disabled stay as they are.
        Raises: Failed(start_not_found, app_exited, service_failed).
        """
        ...

    async def stop(self) -> None:
        """End all of them, and run nothing at any time. Idempotent."""
        ...

    async def states(self) -> tuple[list[ProcessState], list[TimerState]]:
        """How each process and each timer is. Never raises."""
        ...


class HookRunner(Protocol):
    """Runs one executable as the app's user."""

    async def run(
        self,
        executable: Path,
        *arguments: str,
        folder: Path,
        environment: Mapping[str, str],
        deadline_s: float,
        line: Lines,
    ) -> str:
        """Run it to its end in `folder`; every line it writes goes to `line`, at once.

        Returns "" if it ended well, else how it ended ("exit code 3", "signal 9 (KILL)", "no end after 300 s").
        Nothing it started outlives the call. Never raises.
        """
        ...
