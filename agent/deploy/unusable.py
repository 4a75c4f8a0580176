"""An app whose file cannot be used: it is there under its name, and says what has to be mended.

Invariant: whatever is asked of it is refused with that, and nothing of it is touched: where its releases are and
whose they are is not known. What runs goes on; what was left unfinished waits for a start that can read the file.
"""

from typing import NoReturn

import structlog

from agent.deploy.deployment import Deployment, recorded
from agent.deploy.status_line import StatusLine
from agent.host.ports import Clock
from agent.host.storage.journal import Journal
from pusher.wire import Refused

_log = structlog.get_logger()


class Unusable:
    """In the place of the app's deployments, and of its drop directory. `problem` is what it refuses with."""

    def __init__(
        self, app: str, problem: Refused, *, journal: Journal, clock: Clock, status_line: StatusLine
    ) -> None:
        self.app = app
        self._problem = problem
        self._journal = journal
        self._clock = clock
        self._status_line = status_line

    async def submit(self, *_: object, **__: object) -> NoReturn:
        """Raises: Refused(configuration), as all that is not told otherwise."""
        self._refuse()

    missing = judged = of_manifest = status = releases = index = pin = look = submit

    def log(self, *_: object, **__: object) -> NoReturn:
        """As `submit`."""
        self._refuse()

    entries = results = log

    async def turn_over(self) -> None:
        """Return at once: no deployment is under way."""

    async def deployment(self, deployment: str) -> Deployment | None:
        """A deployment that has ended, from the journal. Raises: Refused, for one that is to be settled yet."""
        record = await self._journal.deployment(deployment)
        if record is None or record.attempt.app != self.app:
            return None
        if record.finished is None:
            self._refuse()
        return await recorded(record, journal=self._journal, clock=self._clock)

    async def recover(self) -> None:
        """Say what is wrong, once, and settle nothing."""
        _log.error("app_left_alone", app=self.app, problem=str(self._problem))
        self._status_line.unusable()

    async def stop(self, *, grace_s: float) -> None:
        """Nothing of it is under way."""

    def _refuse(self) -> NoReturn:
        one = self._problem
        raise Refused(one.code, one.what, why=one.why, hint=one.hint)
