"""The problem of a release that did not start, from how it ended and what it wrote."""

from pathlib import PurePath

from agent.core.advice import advise
from agent.core.ending import find_cause, find_loop, without_noise
from agent.core.servers import opens_its_own, port_advice, socket_advice
from agent.host.ports import Placed
from pusher.wire import Code, Failed

_CLEAN_END = "exit code 0"
_KILLED = ("signal 9 (KILL)", "SIGKILL")
_MEMORY = (
    "Mostly the kernel does that, when there is no memory left: `journalctl -k` on the host says it. The app's "
    "own limit is memory_max in [resources] of its file"
)


def ended(placed: Placed, *, why: str, written: str) -> Failed:
    """The problem of a release whose main process ended: the cause that it wrote, or else how it ended."""
    if found := caused(placed, Code.APP_EXITED, written):
        return found
    hint = "Its last lines are below" if written else "It wrote nothing"
    if why == _CLEAN_END:
        why = f"{why}, before it answered"
        hint = f"Does it daemonize? It must stay in the foreground: leave out --daemon. {hint}"
    if why in _KILLED:
        hint = f"{_MEMORY}. {hint}"
    what, output = f"Release {placed.release} ended by itself", without_noise(written)
    return Failed(Code.APP_EXITED, what, why=why, hint=hint, output=output)


def not_loaded(placed: Placed, *, deadline_s: float, written: str) -> Failed:
    """The problem of a release that runs, and has accepted no connection in time."""
    if found := caused(placed, Code.SOCKET_NOT_TAKEN, written):
        return found
    if loop := find_loop(written):
        how = f": {loop.how}" if loop.how else ""
        hint = "What they wrote is below, each line once" if loop.output else "They wrote nothing"
        return Failed(
            Code.APP_EXITED,
            f"Release {placed.release} did not start within {deadline_s:g} s",
            why=f"its workers end before they serve, and others take their place, again and again{how}",
            hint=f"{_MEMORY}. {hint}" if loop.how in _KILLED else hint,
            output=loop.output,
        )
    start, at_port = placed.run.start, placed.run.listen_via == "port"
    if PurePath(start[0]).name == "gunicorn" and not at_port and not opens_its_own(start):
        return Failed(
            Code.SOCKET_NOT_TAKEN,
            f"Release {placed.release} was not loaded within {deadline_s:g} s",
            why="gunicorn holds the socket, and its workers still load the app",
            hint="If it needs longer, raise deadline_s in [health]. If its configuration has reuse_port, it takes "
            "no socket: leave that out. Its last lines are below",
            output=written,
        )
    return Failed(
        Code.SOCKET_NOT_TAKEN,
        f"Release {placed.release} did not accept "
        + ("at the port it was told" if at_port else "from the socket it was handed"),
        why=f"no connection was accepted within {deadline_s:g} s (deadline_s), though the app runs",
        hint="Its last lines are below: it may have failed to start. "
        + (port_advice(start) if at_port else socket_advice(start)),
        output=written,
    )


def caused(placed: Placed, code: Code, written: str) -> Failed | None:
    """The problem that a release wrote itself; None if it wrote none."""
    cause = find_cause(written, release=placed.release, start=placed.run.start)
    if cause is None:
        return None
    return Failed(code, cause.what, why=cause.why, hint=cause.hint, output=cause.output)


def process_ended(
    what: str, *, how: str, written: str, release: str, code: Code = Code.APP_EXITED, hint: str = ""
) -> Failed:
    """The problem of a worker that ended: the cause that it wrote, if it wrote one, and what to do about it.

    `what` says which and when, `how` is its end, `release` its id; without `hint`, it is said what was written.
    """
    cause = find_cause(written, release=release, start=())
    # A logger may take a traceback to pieces, a line each (Celery does): then the last line alone says something.
    last = without_noise(written).rstrip().rpartition("\n")[2]
    todo = cause.hint if cause else advise(last, frames=())
    hints = (hint or ("Its last lines are below" if written else "It wrote nothing"), todo)
    why = f"{how}: {cause.why}" if cause else how
    return Failed(code, what, why=why, hint=". ".join(filter(None, hints)), output=written)
