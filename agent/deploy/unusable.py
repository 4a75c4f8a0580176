"""An app whose configuration file cannot be used. The agent knows its name, and what has to be mended.

Invariant: nothing of it is touched, for the agent does not know where its releases are or who owns them. What runs
continues; a deployment that was left unfinished waits for a start that can read the file.
"""

import structlog

from agent.deploy.deployment import Deployment, recorded
from agent.deploy.status_line import StatusLine
from agent.host.ports import Clock
from agent.host.storage.journal import Journal
from pusher.wire import Refused

_log = structlog.get_logger()


class Unusable:
    """One such app. The doors refuse every request about it with `problem`."""

    def __init__(
        self, app: str, problem: Refused, *, journal: Journal, clock: Clock, status_line: StatusLine
    ) -> None:
        self.problem = problem
        self._app = app
        self._journal = journal
        self._clock = clock
        self._status_line = status_line

    def report(self) -> None:
        """Say what is wrong, once."""
        _log.error("app_left_alone", app=self._app, problem=str(self.problem))
        self._status_line.unusable()

    async def deployment(self, deployment: str) -> Deployment | None:
        """A deployment that has ended, by its id. Raises: Refused, for one that is still to be recovered."""
        record = await self._journal.deployment(deployment)
        if record is None or record.attempt.app != self._app:
            return None
        if record.finished is None:
            raise self.problem.with_traceback(None)
        return await recorded(record, journal=self._journal, clock=self._clock)
