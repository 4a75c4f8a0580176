"""The status line: what the agent is doing, as `systemctl status pusher-agent` shows it.

Invariant: it follows events and asks nobody. A line that cannot be shown changes nothing.
"""

from collections.abc import Callable

from agent.core.plan import Attempt, Kind
from pusher.wire import Event, Happened


class StatusLine:
    """The part of one app. `at_rest` is its name and what is live; `busy` is what is being done, empty at rest."""

    def __init__(self, app: str, changed: Callable[[], None]) -> None:
        self.at_rest = app
        self.busy = ""
        self._app = app
        self._changed = changed

    def live(self, version: str | None) -> None:
        """Show that this version is live."""
        self._at_rest(version or "no release yet")
        self._changed()

    def unusable(self) -> None:
        """Show that the app's file cannot be used."""
        self._at_rest("LEFT ALONE: its file cannot be used")
        self._changed()

    def happened(self, attempt: Attempt, event: Event) -> None:
        """Show what an event of a deployment says, if that is new."""
        match event.event:
            case Happened.STARTED:
                self.busy = self._doing(attempt)
            case Happened.STEP_STARTED:
                self.busy = f"{self._doing(attempt)}: {event.data['step']}"
            case Happened.HOOK_STARTED:
                self.busy = f"{self._doing(attempt)}: hook {event.data['hook']}"
            case Happened.UNDO_STARTED:
                self.busy = f"Taking back {self._app} {attempt.version}: {event.data['step']}"
            case Happened.FINISHED:
                self.busy = ""
                live = event.data["live"]["version"] if event.data.get("live") else "no release yet"
                self._at_rest(f"{live}, STUCK" if event.data["outcome"] == "stuck" else live)
            case _:
                return
        self._changed()

    def _doing(self, attempt: Attempt) -> str:
        if attempt.kind is Kind.ROLLBACK:
            return f"Rolling {self._app} back to {attempt.version}"
        return f"Deploying {self._app} {attempt.version}"

    def _at_rest(self, what: str) -> None:
        self.at_rest = f"{self._app} ({what})"


class StatusLines:
    """The apps of a host in one line. `say` gets it when it changes. `door` is where the agent listens."""

    def __init__(self, *, door: str, say: Callable[[str], None]) -> None:
        self._apps: list[StatusLine] = []
        self._door = door
        self._say = say
        self._stopping = False
        self._shown = ""

    def of(self, app: str) -> StatusLine:
        """Add the part of one more app."""
        self._apps.append(StatusLine(app, self.show))
        return self._apps[-1]

    def stopping(self) -> None:
        """Show from now on that the agent stops, and what it waits for."""
        self._stopping = True
        self.show()

    def show(self) -> None:
        """Give the line to `say`, if it has changed."""
        busy = "; ".join(one.busy for one in self._apps if one.busy)
        if self._stopping:
            line = f"Stopping when this has come to its end: {busy}" if busy else "Stopping"
        else:
            apps = ", ".join(one.at_rest for one in self._apps)
            line = busy or f"Serving {apps or 'no app yet'} at {self._door}"
        if line != self._shown:
            self._shown = line
            self._say(line)
