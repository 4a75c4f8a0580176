"""What the doors ask of the agent behind them, and nothing more."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Protocol

from agent.core.drop import Awaited
from agent.deploy.admission import VerifiedManifest
from agent.deploy.deployer import Rollback, Send
from agent.deploy.figures import AppFigures
from agent.host.ports import Bundle
from pusher.wire import Entry, Event, LogLine, Refused


class Deployment(Protocol):
    """One deployment, running or past. It runs to its end whether it has watchers or not."""

    @property
    def id(self) -> str: ...

    @property
    def app(self) -> str: ...

    def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """Its events with `seq` above `after`, as they happen; ends after `finished`."""
        ...

    async def finished(self) -> Event:
        """Wait for its last event."""
        ...

    async def consumed(self) -> None:
        """Return when nothing more will be read of its bundle."""
        ...

    def summary(self) -> dict[str, Any]:
        """Its facts, and its `outcome`: null while it runs, then `done`, `failed` or `stuck`."""
        ...

    def course(self) -> dict[str, Any]:
        """Who signed it (`signed_by`), and its `steps` so far."""
        ...


class Deployer(Protocol):
    """What changes the releases of one app."""

    async def submit(self, request: Send | Rollback) -> Deployment:
        """Begin a deployment. Raises: Refused, with nothing changed."""
        ...

    async def missing(self, bundle: Bundle) -> list[str]:
        """The SHA-256 of each file that a bundle with this manifest and index must bring. Raises: Refused."""
        ...

    def cancel(self, *, by: str, deployment: str = "") -> Deployment:
        """End the deployment that is under way (only this one, if named). Raises: Refused."""
        ...

    async def command_began(self, run: str, *, by: str, release: str, command: str) -> None:
        """Record that root runs a command for a person."""
        ...

    async def command_ended(self, run: str, *, code: int) -> None:
        """Record its exit code."""
        ...

    async def pin(self, release: str, *, pinned: bool, by: str) -> None:
        """Protect a release from retention, or no longer. Raises: Refused(unknown_release)."""
        ...


class Status(Protocol):
    """What can be asked about one app. Nothing here changes anything."""

    async def summary(self) -> dict[str, Any]:
        """What is live, what is under way, and how the last deployment ended."""
        ...

    async def health(self) -> dict[str, Any]:
        """What the app answers to its health check now."""
        ...

    async def releases(self) -> dict[str, Any]:
        """The releases on disk, and the newest deployments."""
        ...

    async def index(self, release: str = "") -> AsyncIterator[bytes]:
        """The signed index of a release (the live one, if empty), in pieces of whole lines. Raises: Refused."""
        ...

    async def sbom(self, release: str = "") -> dict[str, Any]:
        """What a release (the live one, if empty) consists of, as a CycloneDX document. Raises: Refused."""
        ...

    async def history(self) -> dict[str, Any]:
        """The head of the app's history, and what is wrong with it."""
        ...

    def records(self, *, after: int) -> AsyncIterator[bytes]:
        """The records of the app's history after the one of this number, in order, each without a newline."""
        ...

    @property
    def log_units(self) -> tuple[str, ...]:
        """What the lines of the app's log can be from."""
        ...

    def log(self, *, lines: int, follow: bool, unit: str = "") -> AsyncIterator[LogLine]:
        """The app's own log; as `agent.host.ports.Service.log`."""
        ...

    async def of_manifest(self, manifest: str) -> Deployment | None:
        """The newest deployment of a manifest, named by its SHA-256, running or past."""
        ...

    async def idle(self) -> None:
        """Return when no deployment is under way."""
        ...

    @property
    def ended(self) -> int:
        """How many deployments have ended since the agent started."""
        ...

    async def another(self, *, after: int) -> None:
        """Return when more than `after` deployments have ended."""
        ...


class Admission(Protocol):
    """What one app lets in. Nothing here changes anything."""

    async def receive(self, bundle: Bundle) -> VerifiedManifest:
        """Read the manifest of a bundle, and verify its signature. Raises: Refused."""
        ...

    async def check(self, verified: VerifiedManifest, *, retry: bool) -> None:
        """Refuse a manifest for elsewhere, too large or not fresh; `retry` accepts the newest one once more.

        Raises: Refused, Failed.
        """
        ...

    def entries(self, verified: VerifiedManifest, bundle: Bundle) -> Iterator[Entry]:
        """The entries of the bundle's index, checked as they are read. Blocking. Raises: Refused."""
        ...


class Figures(Protocol):
    """What can be measured of one app. Nothing here changes anything."""

    async def read(self) -> AppFigures:
        """The figures now. Raises: Failed, if the journal cannot be read."""
        ...


class App(Protocol):
    """One app that can be used."""

    @property
    def name(self) -> str: ...

    @property
    def deployer(self) -> Deployer: ...

    @property
    def status(self) -> Status: ...

    @property
    def admission(self) -> Admission: ...

    @property
    def figures(self) -> Figures: ...


class Drop(Protocol):
    """The drop directory of one app."""

    async def scan(self) -> None:
        """Scan everything that is there now. Raises: Refused, without a directory; Failed."""
        ...

    def results(self, manifest: str) -> AsyncIterator[Event]:
        """What becomes of the drop with this manifest (its SHA-256), each time it changes, until it is settled."""
        ...

    def waiting(self) -> Iterable[Awaited]:
        """What each drop waits for that waits, as of the last scan."""
        ...


class Channel(Protocol):
    """The subscription of one app to a channel."""

    def summary(self) -> dict[str, Any]:
        """How the app stands to its channel."""
        ...


class Notices(Protocol):
    """Those who are told how deployments end."""

    async def summary(self) -> list[dict[str, Any]]:
        """How each way to tell them stands; empty without one. Raises: Failed."""
        ...

    async def test(self) -> list[dict[str, Any]]:
        """Send a test by each way; how that went. Raises: Failed."""
        ...


class Agent(Protocol):
    """The name of this host, and all its apps by name: usable, or the problem with its configuration, which the
    door raises."""

    @property
    def host(self) -> str: ...

    @property
    def apps(self) -> Mapping[str, App | Refused]: ...

    @property
    def drops(self) -> Mapping[str, Drop]: ...

    @property
    def channels(self) -> Mapping[str, Channel]: ...

    @property
    def notices(self) -> Notices: ...

    async def deployment(self, deployment: str) -> Deployment | None:
        """A deployment of any app by its id, running or past. Raises: Refused, if its app cannot be used."""
        ...
