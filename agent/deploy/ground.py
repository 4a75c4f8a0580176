"""What is really there, against what an app's deployments and its status take for granted.

Invariant: this only reads. What would make a deployment fail after something live was changed is found before.
"""

import asyncio
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.core.plan import HOOK_NAMES
from agent.host.ports import Clock, Service
from agent.host.releases.store import ReleaseStore
from agent.host.storage.room import shortage
from pusher.wire import Code, Problem, Refused

_FRESH_S = 60.0
_OLD_S = 900.0
_PATIENCE_S = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one app lies: the folder of the host's own hooks, the agent's own folder, and what says why the app's
    user cannot run a path.

    `unrunnable` says nothing if the user can, and raises KeyError if there is no such user.
    """

    app: str
    hooks: Path
    state: Path
    unrunnable: Callable[[Path], str]


class Ground:
    """The ground truth of one app. `differs` says how its file is not what is in force; empty if it is."""

    def __init__(
        self, place: Place, *, store: ReleaseStore, service: Service, clock: Clock, differs: Callable[[], str]
    ) -> None:
        self._place = place
        self._store = store
        self._service = service
        self._clock = clock
        self._differs = differs
        self._drift: tuple[str, float, str] = ("", 0.0, "")
        """The release that was compared, when, and its first difference."""
        self._comparing: asyncio.Task[str] | None = None

    def check(self) -> None:
        """Check what every deployment needs. Blocking. Raises: Refused(configuration, hook_failed)."""
        current = self._store.layout.current
        # A file in its place is replaced as a link is: only a folder cannot be, and may hold a whole app.
        if current.is_dir() and not current.is_symlink():
            away = f"{current}.before"
            raise Refused(
                Code.CONFIGURATION,
                f"{current} is a folder, and not a link to a release",
                why="the agent makes what is live a link, and deletes nothing that it has not made",
                hint=f"Move it away, as root: mv -T {shlex.quote(str(current))} {shlex.quote(away)}",
            )
        for path in (self._place.hooks, *(self._place.hooks / name for name in sorted(HOOK_NAMES))):
            if why := self._unrunnable(path):
                what = f"The host's hooks of {self._place.app} cannot be run"
                raise Refused(Code.HOOK_FAILED, what, why=why, hint="Nothing was changed. Then send again")

    async def not_in_force(self) -> Problem | None:
        """What people should know of a deployment that goes on with what was read before; None if nothing."""
        if differs := await asyncio.to_thread(self._differs):
            return Refused(
                Code.CONFIGURATION, f"A change of {self._place.app}'s file is not in force", why=differs
            )
        return None

    async def warnings(self) -> list[str]:
        """What people should know: why the live release does not serve, what refuses its next deployment, how its
        file is not in force, and whether it comes back after a reboot."""
        found = []
        try:
            await asyncio.to_thread(self.check)
        except Refused as problem:
            found.append(str(problem))
        if differs := await asyncio.to_thread(self._differs):
            found.append(f"not in force: {differs}")
        if short := await asyncio.to_thread(self._shortage):
            found.append(short)
        try:
            out = await self._outage()
            if out:
                found.append(f"it does not serve: {out}")
            elif not await self._service.wanted():
                app = self._place.app
                found.append(f"it is disabled, and stays down after a reboot: systemctl enable {app}.socket {app}")
        except Problem as problem:
            found.append(str(problem))
        return found

    async def _outage(self) -> str:
        """Why the live release does not serve; empty if it does."""
        if self._service.running() is not None or await asyncio.to_thread(self._store.live) is None:
            return ""
        return await self._service.outage()

    async def drift(self) -> str | None:
        """The first difference between the live release and what was signed; None while that is not known.

        A large release takes a while to read. So an answer is good for a minute, and nobody waits long for one.
        """
        live = await asyncio.to_thread(self._store.live)
        if live is None:
            return None
        release, when, found = self._drift
        if release == live and self._clock.elapsed() - when < _FRESH_S:
            return found
        done, _ = await asyncio.wait({self._compared(live)}, timeout=_PATIENCE_S)
        return self._drift[2] if done and self._drift[0] == live else None

    async def newest_drift(self) -> str | None:
        """As `drift`, for those who ask every few seconds: nobody waits, and an answer may be 15 minutes old.

        To read a large release each minute would cost more than the app does.
        """
        live = await asyncio.to_thread(self._store.live)
        release, when, found = self._drift
        if live is not None and (release != live or self._clock.elapsed() - when >= _OLD_S):
            self._compared(live)
        return found if live is not None and release == live else None

    def _compared(self, live: str) -> "asyncio.Task[str]":
        """The comparison that is under way; it is begun if there is none."""
        if self._comparing is None or self._comparing.done():
            self._comparing = asyncio.create_task(self._compare(live), name=f"drift-{self._place.app}")
        return self._comparing

    async def _compare(self, live: str) -> str:
        found = await asyncio.to_thread(self._store.intact, live)
        if found:
            _log.warning("release_drifted", app=self._place.app, release=live, difference=found)
        self._drift = (live, self._clock.elapsed(), found)
        return found

    def _shortage(self) -> str:
        """Where the app or the agent has no room left; empty if both have. Blocking."""
        for path in (self._store.layout.path, self._place.state):
            with suppress(OSError):  # before a first deployment it may not be there
                if short := shortage(path):
                    return short
        return ""

    def _unrunnable(self, path: Path) -> str:
        try:
            return self._place.unrunnable(path)
        except KeyError:
            return ""  # without its user nothing runs, which is reported elsewhere
