"""Following a deployment to its end, over as many connections as it takes.

Invariant: the deployment never depends on the follower. If following ends early, the message says how to follow it
again.
"""

import shlex
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pusher.errors import Interrupted, Unreachable
from pusher.terminal.screen import Screen
from pusher.terminal.text import Tone, duration
from pusher.transport.client import Client
from pusher.wire import Code, Event, Failed, Happened, Problem, Stuck

UNREACHABLE_S = 60.0
"""How long to try to reach a lost agent again before giving up."""
# When nothing happens, the agent sends an empty line much more often than that.
_SILENCE_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 3.0


class Live(NamedTuple):
    """What a deployment made live, in place of `previous` (the id of a release, or empty)."""

    app: str
    version: str
    release: str
    previous: str


def follow(
    client: Client,
    deployment: str,
    screen: Screen,
    *,
    elapsed: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] | None = None,
) -> Mapping[str, Any]:
    """Show the events of a deployment until it has ended well; the data of its last event.

    After a lost connection it goes on where it was, for `UNREACHABLE_S` since the agent last answered.
    Raises: the deployment's own Problem if it did not end well; Unreachable; Interrupted, at Ctrl-C.
    """
    after, heard, pause, switched = 0, elapsed(), _FIRST_PAUSE_S, False
    last: Event | None = None
    try:
        while True:
            try:
                for event in client.events(deployment, after=after, silence_s=_SILENCE_S):
                    if last is not None:
                        break
                    heard, pause = elapsed(), _FIRST_PAUSE_S
                    if event is None:
                        continue
                    after = event.seq
                    if event.event == Happened.FINISHED:
                        # Not at once: when the stream has ended, the next question needs no connection of its own.
                        last = event
                        continue
                    switched = switched or event.data.get("step") == "switch"
                    screen.event(event)
                why = "the agent ended the stream of events"
            except Unreachable as error:
                why = error.why
            if last is not None:
                return _finished(last, screen, host=client.host.name, switched=switched)
            if elapsed() - heard > UNREACHABLE_S:
                raise Unreachable(
                    f"The connection to {client.host.name} was lost during deployment {deployment}",
                    why=why,
                    hint=f"The deployment goes on there. {_how_to_follow(client, deployment)}",
                )
            screen.passing("  connection lost, trying again ...")
            (sleep or client.rest)(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"Deployment {deployment} goes on at {client.host.name}. {_how_to_follow(client, deployment)}"
        ) from error


def follow_until_live(client: Client, deployment: str, screen: Screen) -> Live:
    """`follow`, then print what is live, and the deployment's warning if it has one."""
    data = follow(client, deployment, screen)
    app, version, release = (str(data.get(member)) for member in ("app", "version", "release"))
    took = duration(data.get("ms"))
    screen.line(f"{app} {version} is live on {client.host.name}: release {release}, {took}", tone=Tone.GOOD)
    warning = data.get("warning")
    if isinstance(warning, Mapping):
        screen.line(f"warning: {Problem.from_document(warning)}", tone=Tone.WARNING)
    return Live(app, version, release, str(data.get("previous") or ""))


def check_live(data: Mapping[str, Any], digest: str, *, what: str, host: str) -> None:
    """Check that the release that went live has the manifest with this SHA-256, the signed one. Raises: Failed."""
    said = data.get("manifest")
    if said != digest:
        raise Failed(
            Code.CONTENT_MISMATCH,
            f"{what} is not known to be live on {host}",
            why=f"the signed manifest is {digest[:16]}..., and the one that went live there is {_short(said)}",
            hint=f"To see what is live there: {status_command(host)} --json. An older agent does not tell",
        )


def status_command(host: str) -> str:
    """The command that shows the state of a host."""
    return f"pusher status --host {shlex.quote(host)}"


def how_to_return(host: str, release: str) -> str:
    """A hint: the command that makes an earlier release live again."""
    return f"To go back: pusher rollback --host {shlex.quote(host)} --to {shlex.quote(release)}"


def _short(digest: object) -> str:
    return f"{digest[:16]}..." if isinstance(digest, str) and digest else "not told"


def _how_to_follow(client: Client, deployment: str) -> str:
    host = shlex.quote(client.host.name)
    return f"To follow it: pusher status --host {host} --deployment {shlex.quote(deployment)} --follow"


def _finished(event: Event, screen: Screen, *, host: str, switched: bool) -> Mapping[str, Any]:
    outcome, document = event.data.get("outcome"), event.data.get("problem")
    if outcome == "done":
        return event.data
    live = event.data.get("live")
    if isinstance(live, Mapping):
        # `current` points at this release. Whether an app that is stuck answers is not known.
        what, release = f"{event.data.get('app')} {live.get('version')}", f"release {live.get('release')}"
        if outcome == "stuck":
            screen.line(f"{what} is current on {host}, but the app is stuck: {release}")
        elif switched:
            screen.line(f"{what} is live again on {host}, {release}")
        else:
            screen.line(f"nothing was changed on {host}: {what} is live, {release}")
    elif "live" in event.data:
        screen.line(f"nothing of {event.data.get('app')} is live on {host}")
    if not isinstance(document, Mapping):
        raise Failed(Code.INTERNAL, f"The deployment ended as {outcome}", why="the agent gave no reason")
    problem = Problem.from_document(document)
    if outcome == "stuck" and not isinstance(problem, Stuck):
        # The host is stuck, whatever failed first.
        raise Stuck(problem.code, problem.what, why=problem.why, hint=problem.hint, output=problem.output)
    raise problem
