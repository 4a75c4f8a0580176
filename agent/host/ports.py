"""The seams between deciding and doing: what the steps ask of a machine, and nothing more.

A port has a real adapter in this folder for each kind of machine, and a simulated one in the tests.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pusher.wire import LogLine

Lines = Callable[[str], None]
"""Takes one line of somebody's output, without its newline."""


class Clock(Protocol):
    """The time. Deadlines are measured by `elapsed`, which no clock change moves."""

    def now(self) -> int:
        """Milliseconds since 1970, UTC."""
        ...

    def elapsed(self) -> float:
        """Seconds since a fixed moment of this boot; never goes back."""
        ...

    def sleep(self, seconds: float) -> Awaitable[None]: ...


class Bundle(Protocol):
    """What came in through a door: read once, front to back, by blocking calls in a worker thread.

    Nothing in it is trusted: names and sizes are what the sender claims.
    """

    def signed_manifest(self) -> tuple[bytes, bytes]:
        """The manifest and its signature, within their limits. Raises: Refused."""
        ...

    def index(self, size: int) -> Iterator[bytes]:
        """The lines of the index, which must have `size` bytes. Raises: Refused."""
        ...

    def files(self) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        """Path, claimed size and content of each file that travelled; contents are read before going on.

        Raises: Refused for a malformed bundle or member that is no regular file, Failed for a broken upload.
        """
        ...


@dataclass(frozen=True, slots=True)
class Placed:
    """A release as it lies on disk: `path` is its folder (never through `current`)."""

    release: str
    version: str
    path: Path


class Running(Protocol):
    """A started release: the app's main process."""

    placed: Placed
    address: str
    """Where it answers: `host:port`, `[v6]:port`, or `unix:/path`."""

    async def wait(self) -> str:
        """Wait until the main process has ended; says how ("exit code 3", "signal 9"). Never raises."""
        ...

    async def tail(self) -> str:
        """The last lines it wrote, newline-separated. Never raises."""
        ...

    async def end(self) -> None:
        """End it and everything it started, politely, then not. Returns when it is gone."""
        ...

    def dismiss(self) -> None:
        """As `end`, but without waiting for it: for a candidate that did well, so that nobody has to.

        `Service.stop` does wait for it.
        """
        ...

    async def took_socket(self) -> bool:
        """Whether it ever accepted from the socket it was handed; asked once, after it failed to answer."""
        ...


class Service(Protocol):
    """What keeps one app running, and hands it the public listening socket (`LISTEN_FDS`)."""

    async def ready(self) -> None:
        """Whether a deployment can be begun at all. Raises: Refused(configuration, service_failed)."""
        ...

    async def reserve(self) -> None:
        """Have the public socket, or find out that we cannot. Raises: Refused(port_taken)."""
        ...

    async def wanted(self) -> bool:
        """Whether the app is to run without anybody asking for it: root may have stopped it for good.

        Raises: Failed(service_failed).
        """
        ...

    async def try_out(self, placed: Placed) -> Running:
        """Start a candidate on a private unix socket. Raises: Failed(start_not_found, service_failed)."""
        ...

    async def restart(self, placed: Placed) -> Running:
        """Make `placed` the one that serves the public socket; what served before has `drain_s` to finish.

        Returns when the one before is gone and the new main process has been started (not: when it
        answers). Raises: Failed(start_not_found, service_failed).
        """
        ...

    async def mend(self) -> None:
        """Clear what would keep `restart` from working: failed state, a socket that is down."""
        ...

    async def stop(self) -> None:
        """Nothing runs and nothing listens any more. Idempotent."""
        ...

    def running(self) -> Running | None:
        """What serves the public socket now, if anything does."""
        ...

    def log(self, *, lines: int, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        """The app's last lines, oldest first; then, with `follow`, every new one, without an end.

        Of `unit` alone (`LogUnit`), if given. A reader who closes it early leaves nothing behind; one who is slow
        holds nothing up. Raises: Failed(service_failed), while it is read.
        """
        ...


class HookRunner(Protocol):
    """Runs one executable as the app's user."""

    async def run(
        self,
        executable: Path,
        *,
        folder: Path,
        environment: Mapping[str, str],
        deadline_s: float,
        line: Lines,
    ) -> str:
        """Run it to its end in `folder`; every line it writes goes to `line`, at once.

        Returns "" if it ended well, else how it ended ("exit code 3", "signal 9", "no end after 300 s").
        Nothing it started outlives the call.
        """
        ...
