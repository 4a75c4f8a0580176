"""What the doors ask of the agent behind them, and nothing more."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Protocol

from agent.deploy.admission import VerifiedManifest
from agent.deploy.deployer import Rollback, Send
from agent.host.ports import Bundle
from pusher.wire import Entry, Event, LogLine


class Deployment(Protocol):
    """One attempt to make a release live, running or past; it goes on whether anybody watches or not."""

    @property
    def id(self) -> str: ...

    @property
    def app(self) -> str: ...

    def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """Its events with `seq` above `after`, as they happen; ends after `finished`."""
        ...

    async def finished(self) -> Event:
        """Its last event, when it has happened."""
        ...

    async def taken_in(self) -> None:
        """Return when nothing more will be read of the bundle it came with."""
        ...

    def summary(self) -> dict[str, Any]:
        """What it is, and its `outcome`: null while it runs, then `done`, `failed` or `stuck`."""
        ...


class Deployer(Protocol):
    """The deployments of one app."""

    @property
    def app(self) -> str: ...

    async def submit(self, request: Send | Rollback) -> Deployment:
        """Begin what is asked for. Raises: Refused, with nothing changed."""
        ...

    async def missing(self, bundle: Bundle) -> list[str]:
        """The digests that a bundle of these papers would have to bring along. Raises: Refused."""
        ...

    async def judged(self, bundle: Bundle, *, again: bool) -> VerifiedManifest:
        """The papers of a bundle, judged as a deployment would. Raises: Refused, Failed."""
        ...

    def entries(self, verified: VerifiedManifest, bundle: Bundle) -> Iterator[Entry]:
        """The entries of a bundle's index, judged as they are read. Blocking. Raises: Refused."""
        ...

    async def of_manifest(self, manifest: str) -> Deployment | None:
        """The newest deployment of a manifest, named by its SHA-256, running or past."""
        ...

    async def turn_over(self) -> None:
        """Return when no deployment is under way."""
        ...

    async def status(self) -> dict[str, Any]: ...

    async def releases(self) -> dict[str, Any]: ...

    def log(self, *, lines: int, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        """The app's own log; as `agent.host.ports.Service.log`."""
        ...

    async def index(self, release: str = "") -> AsyncIterator[bytes]:
        """The signed index of a release (the live one, unless told), in pieces of whole lines. Raises: Refused."""
        ...

    async def pin(self, release: str, *, pinned: bool, by: str) -> None:
        """Keep a release from retention, or no more. Raises: Refused(unknown_release)."""
        ...


class Drop(Protocol):
    """The drop directory of one app."""

    async def look(self) -> None:
        """Look at everything that is there now. Raises: Refused, if it is not open; Failed."""
        ...

    def results(self, manifest: str) -> AsyncIterator[Event]:
        """What becomes of the landing with this manifest (its SHA-256), until it is settled."""
        ...


class Agent(Protocol):
    """All apps of this host."""

    @property
    def apps(self) -> Mapping[str, Deployer]: ...

    @property
    def drops(self) -> Mapping[str, Drop]: ...

    async def deployment(self, deployment: str) -> Deployment | None:
        """A deployment of any app by its id, running or past."""
        ...
