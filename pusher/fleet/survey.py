"""A look over a fleet at one moment: the channel's document, the brake, and where each host of the inventory
stands.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pusher.config import Settings
from pusher.errors import Unreachable, Usage
from pusher.fleet.inventory import Member, read_inventory
from pusher.fleet.proved import Proved
from pusher.fleet.reports import Reports, read_reports
from pusher.fleet.standing import Place, places
from pusher.fleet.state import state_folder
from pusher.repository.address import open_repository
from pusher.repository.bell import is_bus, ring
from pusher.repository.brake import is_braked
from pusher.repository.channel import Channels, SignedChannel
from pusher.repository.store import Found, Repository
from pusher.terminal.screen import print_problem
from pusher.wire import Problem
from pusher.wire.channel import Channel, report_name


@dataclass(frozen=True, slots=True)
class _Unread:
    """A place with reports that does not answer."""

    problem: Unreachable | Usage

    def read(self, name: str, *, most: int) -> Found | None:
        """Raises: the problem with the place."""
        raise self.problem


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found. `signed` is None where the channel has no document."""

    repository: Repository
    channels: Channels
    signed: SignedChannel | None
    places: list[Place]
    braked: bool

    @property
    def document(self) -> Channel | None:
        """The channel's document."""
        return self.signed.document if self.signed else None


class SaidOnce:
    """Prints a problem, unless it said the same before: who looks at a fleet looks every few seconds."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, problem: Problem | None) -> bool:
        """Whether it was printed now. None: all is well, and the same problem would be a new one."""
        said, self._last = self._last, str(problem) if problem else ""
        if problem is None or self._last == said:
            return False
        print_problem(problem)
        return True


def open_channels(settings: Settings, repository: Repository) -> Channels:
    """The channels of a repository, which ring the bell in the settings when they have changed. Where the settings
    name signers, no document of another counts.
    """

    def rung(app: str, channel: str) -> None:
        ring_bell(settings, app, channel)

    signers = Path(settings.signers) if settings.signers else None
    return Channels(repository, memory=state_folder() / "channels", signers=signers, changed=rung)


def ring_bell(settings: Settings, app: str, channel: str) -> None:
    """Ring the bell in the settings, if there is one. One that cannot be rung is named, and nothing else."""
    if settings.bell:
        try:
            ring(settings.bell, app, channel, credentials=settings.bell_credentials_file)
        except (Unreachable, Usage) as problem:
            print_problem(problem)


def survey(
    settings: Settings,
    channel: str,
    *,
    hosts: bool = True,
    say: Callable[[Problem | None], object] | None = None,
) -> Survey:
    """Look at a channel, and with `hosts` at its fleet. `say` hears why a place with reports does not answer, or
    None if it does. Raises: Problem.
    """
    app = settings.app_name()
    members = read_inventory(Path(settings.fleet)) if hosts else []
    repository = open_repository(settings.repository, ssh=settings.ssh, credentials=settings.credentials_file)
    channels = open_channels(settings, repository)
    signed = channels.read(app, channel)
    places_of_reports = [repository, *_bus(settings, members, app=app, say=say or SaidOnce())]
    proved = Proved(state_folder() / "reports" / quote(repository.address, safe="") / f"{app}.{channel}")
    heard = read_reports(places_of_reports, members, app=app, channel=channel, proved=proved)
    found = places(signed.document if signed else None, heard, now=int(time.time() * 1000))
    return Survey(repository, channels, signed, found, is_braked(repository, app, channel))


def _bus(
    settings: Settings, members: Sequence[Member], *, app: str, say: Callable[[Problem | None], object]
) -> list[Reports]:
    """The reports in NATS, if bells ring there. Where it does not answer, that is said: its hosts look silent, and
    no wave opens.
    """
    if not is_bus(settings.bell) or not members:
        return []
    from pusher.repository.nats_bus import fetch_reports  # here: it needs a library that others have no use for

    names = [report_name(app, one.name) for one in members]
    try:
        found = fetch_reports(settings.bell, names, credentials=settings.bell_credentials_file)
    except (Unreachable, Usage) as problem:
        say(problem)
        return [_Unread(problem)]
    say(None)
    return [found]
