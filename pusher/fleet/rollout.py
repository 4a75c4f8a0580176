"""A change of several hosts: first all are asked, then all are changed.

Invariant: if one host cannot be reached, or would refuse, none is changed. A change is taken back only where no
other deployment came after it (docs/adr/0010-several-hosts.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pusher.errors import Interrupted, Unreachable
from pusher.fleet.fleet import AT_ONCE, run_on
from pusher.fleet.follow import Live, follow, how_to_return, status_command
from pusher.fleet.outcomes import Row, interruption, print_outcomes, row_of, worst_exit_code
from pusher.terminal.screen import Screen, print_problem
from pusher.terminal.text import sentence
from pusher.transport.client import Client
from pusher.wire import Code, Problem, Refused, Stuck

if TYPE_CHECKING:
    from pusher.fleet.pool import Result

ASKING_S = 20.0
"""How long each of several hosts may take for the first answer. Nobody has to type anything meanwhile."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RolloutOptions:
    """How a command changes its hosts: `at_once` of them together, or `in_turn` until one fails.

    With `skip_unreachable` it goes on without hosts that cannot be reached. With `all_or_none` it takes the others
    back if one fails.
    """

    at_once: int = AT_ONCE
    in_turn: bool = False
    skip_unreachable: bool = False
    all_or_none: bool = False


class Rollout:
    """A command that changes its hosts. `clients` are the hosts left, without those that were skipped."""

    def __init__(self, clients: Sequence[Client], screen: Screen, *, options: RolloutOptions) -> None:
        self.clients = list(clients)
        self.several = len(clients) > 1
        self._named = [client.host.name for client in clients]
        self._screen = screen
        self._options = options
        self._skipped: dict[str, Row] = {}

    def ask(self, question: Callable[[Client], _T], *, doing: str) -> dict[str, _T]:
        """The answer of each host, by its name. The question must change nothing.

        Raises: the Problem of a single host; with several, one Problem that says why none is changed, after
        those of the hosts were printed; Interrupted.
        """
        if not self.several:
            return {client.host.name: question(client) for client in self.clients}

        def ask(client: Client, screen: Screen) -> _T:
            screen.passing(f"  {doing} ...")
            return question(client)

        results, interrupted = run_on(self.clients, ask, self._screen, at_once=self._options.at_once)
        if interrupted:
            raise Interrupted("Interrupted. Nothing was changed on any host")
        problems = {name: one.error for name, one in results.items() if isinstance(one.error, Problem)}
        if self._options.skip_unreachable:
            self._skip([name for name, problem in problems.items() if isinstance(problem, Unreachable)], results)
        if problems.keys() - self._skipped.keys() or not self.clients:
            raise _nothing_changed(problems, may_skip=not self._options.skip_unreachable)
        return {name: result.value for name, result in results.items() if result.value is not None}

    def change(self, act: Callable[[Client, Screen], Live], *, before: Mapping[str, str]) -> int:
        """Run `act` on every host; the exit code of the worst. `before` is the release that was live on each.

        Raises: the Problem of a single host; Interrupted.
        """
        if not self.several:
            act(self.clients[0], self._screen)
            return 0
        options = self._options
        stops = options.in_turn or options.all_or_none
        for name in (client.host.name for client in self.clients if options.all_or_none):
            if name not in before:
                self._screen.line(f"{name} has no release yet, so it cannot be taken back if another host fails")
        results, interrupted = run_on(
            self.clients,
            act,
            self._screen,
            at_once=1 if options.in_turn else options.at_once,
            enough=lambda result: stops and result.error is not None,
        )
        rows = {name: _row(result, before.get(name, "")) for name, result in results.items()}
        changed = [
            (client, result.value)
            for client in self.clients
            if (result := results[client.host.name]).value and result.value.release != before.get(client.host.name)
        ]
        more: list[str] = []
        if options.all_or_none and interrupted:
            more = [_still_to_do(client.host.name, live) for client, live in changed]
        elif options.all_or_none and any(row.problem for row in rows.values()):
            returned, interrupted = self._take_back(changed)
            rows |= {name: row for name, (row, _) in returned.items()}
            more = [text for _, text in returned.values() if text]
        everyone = {name: rows.get(name) or self._skipped[name] for name in self._named}
        exit_code = print_outcomes(everyone, self._screen, summary=True)
        if interrupted:
            raise interruption(results, more=more)
        return exit_code

    def _skip(self, names: Sequence[str], results: "Mapping[str, Result[_T]]") -> None:
        for name in names:
            row = row_of(results[name])
            self._skipped[name] = Row("skipped", note=row.note)
            self._screen.line(f"skipping {name}: {row.note}")
        self.clients = [client for client in self.clients if client.host.name not in names]

    def _take_back(self, changed: Sequence[tuple[Client, Live]]) -> tuple[dict[str, tuple[Row, str]], bool]:
        """Make live again what was live on each before. The row of each, and what is left to do by hand."""
        if not changed:
            return {}, False
        names = ", ".join(client.host.name for client, _ in changed)
        self._screen.line(f"taking back: {names}")
        lives = {client.host.name: live for client, live in changed}
        # One by one, the last comes first.
        clients = [client for client, _ in (reversed(changed) if self._options.in_turn else changed)]

        def back(client: Client, screen: Screen) -> Row:
            return take_back(client, lives[client.host.name], screen)

        at_once = 1 if self._options.in_turn else self._options.at_once
        results, interrupted = run_on(clients, back, self._screen, at_once=at_once)
        found = {name: _returned(result, name, lives[name]) for name, result in results.items()}
        return found, interrupted


def take_back(client: Client, live: Live, screen: Screen) -> Row:
    """Go back to the release before `live`, unless another release is live by now.

    Raises: Stuck, if `live` stays live.
    """
    name, what = client.host.name, f"{live.app} {live.version}"
    if not live.previous:
        raise Stuck(
            Code.NOT_UNDONE,
            f"{what} stays live on {name}",
            why="it is the first release there, so there is no release to go back to",
            hint="Send a version that works, or stop the app on the host",
        )
    try:
        follow(client, client.rollback(live.app, to=live.previous, leaving=live.release), screen)
    except Problem as problem:
        if problem.code is Code.NOT_LIVE:
            return Row("left alone", note=f"{what} is not live any more: {problem.why}")
        raise Stuck(
            Code.NOT_UNDONE,
            f"{what} was not taken back on {name}",
            why=sentence(problem),
            hint=_still_to_do(name, live),
            output=problem.output,
        ) from problem
    screen.line(f"taken back on {name}: release {live.previous} is live")
    return Row("taken back", live.previous, note="the release before is live again")


def _row(result: "Result[Live]", before: str) -> Row:
    if result.value is None:
        return row_of(result)
    live = result.value
    verb = "was live already" if live.release == before else "is live"
    return row_of(result, release=live.release, note=f"{live.app} {live.version} {verb}")


def _returned(result: "Result[Row]", name: str, live: Live) -> tuple[Row, str]:
    """The row of a host that was to be taken back, and what is left to do there by hand."""
    row = row_of(result)._replace(release=live.release)
    if result.value is not None:
        return result.value._replace(took=row.took), ""
    if not result.begun:
        return Row("done", live.release, note="not taken back"), _still_to_do(name, live)
    if not result.interrupted:
        return row, ""
    return row, str(result.error) or f"{name}: to see whether it was taken back: {status_command(name)}"


def _still_to_do(name: str, live: Live) -> str:
    where = f"{live.app} {live.version} is live on {name}"
    return f"{where}. {how_to_return(name, live.previous)}" if live.previous else where


def _nothing_changed(problems: Mapping[str, Problem], *, may_skip: bool) -> Problem:
    """Why no host is changed, after printing the problem of each."""
    for name, problem in problems.items():
        print_problem(problem, host=name)
    lost = [name for name, problem in problems.items() if isinstance(problem, Unreachable)]
    others = [name for name in problems if name not in lost]
    reasons = [f"{', '.join(lost)} cannot be reached"] if lost else []
    reasons += [f"{', '.join(others)} would refuse"] if others else []
    hint = f"To go on without {', '.join(lost)}: --skip-unreachable" if may_skip and lost and not others else ""
    what, why = "Nothing was changed on any host", " and ".join(reasons)
    if not others:
        return Unreachable(what, why=why, hint=hint)
    exit_code = worst_exit_code(list(problems.values()))
    worst = next(problem for problem in problems.values() if problem.exit_code == exit_code)
    found = Refused(worst.code, what, why=why)
    found.exit_code = exit_code
    return found
