"""Following a deployment to its end, over as many connections as it takes.

Invariant: the deployment never depends on us; whoever stops following is told how to pick it up again.
"""

import shlex
import time
from collections.abc import Callable, Mapping
from typing import Any

from pusher.errors import Interrupted, Unreachable
from pusher.terminal.show import Screen
from pusher.transport.client import Client
from pusher.wire import Code, Event, Failed, Happened, Problem, Stuck

UNREACHABLE_S = 60.0
"""How long a lost agent is looked for before we stop following."""
# The agent sends an empty line much more often than that when nothing happens.
_SILENCE_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 3.0


def follow(
    client: Client,
    deployment: str,
    screen: Screen,
    *,
    elapsed: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] | None = None,
) -> Mapping[str, Any]:
    """Show the events of a deployment until it has finished well; the data of its last event.

    A lost connection is picked up where it was, for `UNREACHABLE_S` since the agent last answered.
    Raises: the deployment's own Problem if it did not end well; Unreachable; Interrupted, at Ctrl-C.
    """
    after, heard, pause = 0, elapsed(), _FIRST_PAUSE_S
    try:
        while True:
            try:
                for event in client.events(deployment, after=after, silence_s=_SILENCE_S):
                    heard, pause = elapsed(), _FIRST_PAUSE_S
                    if event is None:
                        continue
                    after = event.seq
                    if event.event == Happened.FINISHED:
                        return _finished(event, screen)
                    screen.event(event)
                why = "the agent ended the stream of events"
            except Unreachable as error:
                why = error.why
            if elapsed() - heard > UNREACHABLE_S:
                raise Unreachable(
                    f"{client.host.name} was lost while deployment {deployment} was going on",
                    why=why,
                    hint=f"It goes on without us. {pick_up(client, deployment)}",
                )
            screen.passing("  connection lost, trying again ...")
            (sleep or client.rest)(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"Deployment {deployment} goes on at {client.host.name}. {pick_up(client, deployment)}"
        ) from error


def pick_up(client: Client, deployment: str) -> str:
    """How to follow it again."""
    host = shlex.quote(client.host.name)
    return f"To follow it: pusher status --host {host} --deployment {shlex.quote(deployment)} --follow"


def asking(host: str) -> str:
    """How to see what has become of a host."""
    return f"pusher status --host {shlex.quote(host)}"


def going_back(host: str, release: str) -> str:
    """How to bring an earlier release back."""
    return f"To go back: pusher rollback --host {shlex.quote(host)} --to {shlex.quote(release)}"


def _finished(event: Event, screen: Screen) -> Mapping[str, Any]:
    outcome, document = event.data.get("outcome"), event.data.get("problem")
    if outcome == "done":
        return event.data
    live = event.data.get("live")
    if isinstance(live, Mapping):
        # `current` points at it. That it answers is just what is not known of an app that is stuck.
        how = "is where it is stuck" if outcome == "stuck" else "is still live"
        screen.line(f"{event.data.get('app')} {live.get('version')} {how}: release {live.get('release')}")
    elif "live" in event.data:
        screen.line(f"Nothing of {event.data.get('app')} is live")
    if not isinstance(document, Mapping):
        raise Failed(Code.INTERNAL, f"The deployment ended as {outcome}", why="the agent gave no reason")
    problem = Problem.from_document(document)
    if outcome == "stuck" and not isinstance(problem, Stuck):
        # What is stuck is the host, whatever it was that failed first.
        raise Stuck(problem.code, problem.what, why=problem.why, hint=problem.hint, output=problem.output)
    raise problem
