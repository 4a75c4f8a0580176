"""A change of several hosts: asked before anything changes anywhere, then changed together.

Invariant: while one host cannot be asked, or would refuse, nothing is changed on any. What was changed is taken
back only where nobody has changed it since (docs/adr/0010-several-hosts.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pusher.errors import Interrupted, Unreachable
from pusher.fleet.fleet import AT_ONCE, Row, account, interruption, row_of, take, worst
from pusher.fleet.follow import asking, follow, going_back
from pusher.terminal.show import Screen, sentence, show_problem
from pusher.transport.client import Client
from pusher.wire import Code, Problem, Refused, Stuck

if TYPE_CHECKING:
    from pusher.fleet.pool import Turn

ASKING_S = 20.0
"""How long each of several hosts may take to answer the first question: nobody has to type anything."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Tour:
    """How a command goes round its hosts: `at_once` of them, or `in_turn` until one fails.

    `skip_unreachable` goes on without those that cannot be asked; `all_or_none` takes the others back if one
    fails.
    """

    at_once: int = AT_ONCE
    in_turn: bool = False
    skip_unreachable: bool = False
    all_or_none: bool = False


class Live(NamedTuple):
    """What a deployment made live, in place of `previous` (a release's id, or empty)."""

    app: str
    version: str
    release: str
    previous: str


class Rollout:
    """The hosts of one command that changes them. `clients` are those still in it: others may be skipped."""

    def __init__(self, clients: Sequence[Client], screen: Screen, *, tour: Tour) -> None:
        self.clients = list(clients)
        self.several = len(clients) > 1
        self._named = [client.host.name for client in clients]
        self._screen = screen
        self._tour = tour
        self._skipped: dict[str, Row] = {}

    def ask(self, question: Callable[[Client], _T], *, doing: str) -> dict[str, _T]:
        """What each host answers, by its name; the question must change nothing there.

        Raises: the Problem of one host; of several, one that says what keeps the others from being changed,
        after each's own has been shown; Interrupted.
        """
        if not self.several:
            return {client.host.name: question(client) for client in self.clients}

        def ask(client: Client, screen: Screen) -> _T:
            screen.passing(f"  {doing} ...")
            return question(client)

        turns, interrupted = take(self.clients, ask, self._screen, at_once=self._tour.at_once)
        if interrupted:
            raise Interrupted("Interrupted. Nothing was changed on any host")
        problems = {name: turn.error for name, turn in turns.items() if isinstance(turn.error, Problem)}
        if self._tour.skip_unreachable:
            self._skip([name for name, problem in problems.items() if isinstance(problem, Unreachable)], turns)
        if problems.keys() - self._skipped.keys() or not self.clients:
            raise _nothing_changed(problems, may_skip=not self._tour.skip_unreachable)
        return {name: turn.value for name, turn in turns.items() if turn.value is not None}

    def change(self, act: Callable[[Client, Screen], Live], *, before: Mapping[str, str]) -> int:
        """Run `act` on every host; the exit code of the worst. `before` is the release that was live on each.

        Raises: the Problem of one host; Interrupted.
        """
        if not self.several:
            act(self.clients[0], self._screen)
            return 0
        tour = self._tour
        stops = tour.in_turn or tour.all_or_none
        for name in (client.host.name for client in self.clients if tour.all_or_none):
            if name not in before:
                self._screen.line(f"{name} has no release yet: if another host fails, it cannot be taken back")
        turns, interrupted = take(
            self.clients,
            act,
            self._screen,
            at_once=1 if tour.in_turn else tour.at_once,
            enough=lambda turn: stops and turn.error is not None,
        )
        rows = {name: _row(turn, before.get(name, "")) for name, turn in turns.items()}
        went = [
            (client, turn.value)
            for client in self.clients
            if (turn := turns[client.host.name]).value and turn.value.release != before.get(client.host.name)
        ]
        more: list[str] = []
        if tour.all_or_none and interrupted:
            more = [_still_to_do(client.host.name, live) for client, live in went]
        elif tour.all_or_none and any(row.problem for row in rows.values()):
            taken, interrupted = self._take_back(went)
            rows |= {name: row for name, (row, _) in taken.items()}
            more = [text for _, text in taken.values() if text]
        everyone = {name: rows.get(name) or self._skipped[name] for name in self._named}
        exit_code = account(everyone, self._screen, summary=True)
        if interrupted:
            raise interruption(turns, more=more)
        return exit_code

    def _skip(self, names: Sequence[str], turns: "Mapping[str, Turn[_T]]") -> None:
        for name in names:
            row = row_of(turns[name])
            self._skipped[name] = Row("skipped", note=row.note)
            self._screen.line(f"skipping {name}: {row.note}")
        self.clients = [client for client in self.clients if client.host.name not in names]

    def _take_back(self, went: Sequence[tuple[Client, Live]]) -> tuple[dict[str, tuple[Row, str]], bool]:
        """Bring back what was live on each before; what became of each, and what is left to do by hand."""
        if not went:
            return {}, False
        names = ", ".join(client.host.name for client, _ in went)
        self._screen.line(f"taking back what went live: {names}")
        lives = {client.host.name: live for client, live in went}
        # The last one first, where they had their turns one by one.
        clients = [client for client, _ in (reversed(went) if self._tour.in_turn else went)]

        def back(client: Client, screen: Screen) -> Row:
            return take_back(client, lives[client.host.name], screen)

        at_once = 1 if self._tour.in_turn else self._tour.at_once
        turns, interrupted = take(clients, back, self._screen, at_once=at_once)
        found = {name: _taken(turn, name, lives[name]) for name, turn in turns.items()}
        return found, interrupted


def take_back(client: Client, live: Live, screen: Screen) -> Row:
    """Go back to what was live on a host before, unless something else has gone live there since.

    Raises: Stuck, if `live` stays where it should not.
    """
    name, what = client.host.name, f"{live.app} {live.version}"
    if not live.previous:
        raise Stuck(
            Code.NOT_UNDONE,
            f"{what} stays live on {name}",
            why="it is the first release there, so there is nothing to take it back to",
            hint="Send a version that works, or stop it on the host",
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
    return Row("taken back", live.previous, note="what was live before is live again")


def _row(turn: "Turn[Live]", before: str) -> Row:
    if turn.value is None:
        return row_of(turn)
    live = turn.value
    verb = "was live already" if live.release == before else "is live"
    return row_of(turn, release=live.release, note=f"{live.app} {live.version} {verb}")


def _taken(turn: "Turn[Row]", name: str, live: Live) -> tuple[Row, str]:
    """What became of a host that was to be taken back, and what is left to do there by hand."""
    row = row_of(turn)._replace(release=live.release)
    if turn.value is not None:
        return turn.value._replace(took=row.took), ""
    if not turn.begun:
        return Row("done", live.release, note="not taken back"), _still_to_do(name, live)
    if not turn.interrupted:
        return row, ""
    return row, str(turn.error) or f"{name}: whether it is being taken back, {asking(name)} tells"


def _still_to_do(name: str, live: Live) -> str:
    where = f"{live.app} {live.version} is live on {name}"
    return f"{where}. {going_back(name, live.previous)}" if live.previous else where


def _nothing_changed(problems: Mapping[str, Problem], *, may_skip: bool) -> Problem:
    """The end of a command that has only asked; shows what each host said."""
    for name, problem in problems.items():
        show_problem(problem, host=name)
    lost = [name for name, problem in problems.items() if isinstance(problem, Unreachable)]
    others = [name for name in problems if name not in lost]
    reasons = [f"{', '.join(lost)} cannot be reached"] if lost else []
    reasons += [f"{', '.join(others)} would refuse"] if others else []
    hint = f"To go on without {', '.join(lost)}: --skip-unreachable" if may_skip and lost and not others else ""
    what, why = "Nothing was changed on any host", " and ".join(reasons)
    if not others:
        return Unreachable(what, why=why, hint=hint)
    exit_code = worst(list(problems.values()))
    told = next(problem for problem in problems.values() if problem.exit_code == exit_code)
    found = Refused(told.code, what, why=why)
    found.exit_code = exit_code
    return found
