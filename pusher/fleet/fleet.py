"""One command for one host or for several: all at once, each in lines of its own, told about in a table.

Invariant: hosts do not depend on each other; what fails on one is told, and keeps no other from its end. Every
host that was named is accounted for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pusher.config import Settings
from pusher.errors import Interrupted, Usage
from pusher.fleet.follow import asking
from pusher.terminal.show import Screen, duration, sentence, show_problem, table
from pusher.transport.client import Client
from pusher.wire import Problem

if TYPE_CHECKING:
    from pusher.fleet.pool import Turn

AT_ONCE = 8
"""How many hosts at a time: fewer than a jump host lets in at once (sshd's MaxStartups begins to refuse at 10)."""
# The worse, the later: nothing done, not known, undone, stuck.
_BADNESS = (0, 2, 4, 5, 1, 6)

_T = TypeVar("_T")


class Row(NamedTuple):
    """What became of a host, for the table. `problem` is what counts for the exit code, and is shown in full."""

    outcome: str
    release: str = ""
    took: str = ""
    note: str = ""
    problem: Problem | None = None


@contextmanager
def clients_of(settings: Settings) -> Iterator[list[Client]]:
    """A client for each host of the command, until all is done; where there are several, ssh must not ask.

    Raises: Usage, if no host is named.
    """
    if not settings.chosen:
        there = f"pusher.toml knows {', '.join(settings.hosts)}" if settings.hosts else "For example: --host web1"
        raise Usage("No host is named", hint=f"Name one with --host, or PUSHER_HOST. {there}")
    alone = len(settings.chosen) == 1
    if not alone:
        _make_room(len(settings.chosen))
    clients = [Client(host, ssh=settings.ssh, may_ask=alone) for host in settings.chosen]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def each(
    clients: Sequence[Client],
    act: Callable[[Client, Screen], str],
    screen: Screen,
    *,
    summary: bool = True,
    kept: bool = False,
) -> int:
    """Run `act` on every host; the exit code of the worst. `act` returns its result in one line.

    With one host its Problem is raised. With several, problems are shown when all have ended, the output of
    others last; and if it is `kept`, then only is shown what `act` wrote, host by host. Raises: Problem,
    Interrupted.
    """
    if len(clients) == 1:
        act(clients[0], screen)
        return 0
    turns, interrupted = take(clients, act, screen, at_once=AT_ONCE, kept=kept)
    rows = {name: row_of(turn, note=str(turn.value)) for name, turn in turns.items()}
    exit_code = account(rows, screen, summary=summary)
    if interrupted:
        raise interruption(turns)
    return exit_code


def on_each(settings: Settings, screen: Screen, act: Callable[[Client, Screen], str], *, kept: bool = True) -> int:
    """`each`, on the hosts of the command; `kept`: what one of them has to say stands together."""
    with clients_of(settings) as clients:
        return each(clients, act, screen, summary=False, kept=kept)


def answers(
    clients: Sequence[Client],
    ask: Callable[[Client], _T],
    show: Callable[[Mapping[str, _T]], None],
    screen: Screen,
) -> int:
    """Ask every host, and show what came, by their names and in their order; the exit code of the worst.

    Raises: as `each`.
    """
    if len(clients) == 1:
        show({clients[0].host.name: ask(clients[0])})
        return 0
    turns, interrupted = take(clients, partial(_asked, ask=ask), screen, at_once=AT_ONCE)
    if interrupted:
        raise Interrupted
    show({name: turn.value for name, turn in turns.items() if turn.value is not None})
    return account({name: row_of(turn) for name, turn in turns.items()}, screen, summary=False)


def take(
    clients: Sequence[Client],
    act: Callable[[Client, Screen], _T],
    screen: Screen,
    *,
    at_once: int,
    kept: bool = False,
    enough: "Callable[[Turn[_T]], bool]" = lambda turn: False,
) -> "tuple[dict[str, Turn[_T]], bool]":
    """`take_turns` on one board, by the hosts' names; and whether Ctrl-C ended it."""
    # Late: one host does without.
    from pusher.fleet.pool import take_turns
    from pusher.terminal.board import Board

    board = Board(screen, [client.host.name for client in clients], kept=kept)

    def abandon() -> None:
        for client in clients:
            client.abandon()

    def work(client: Client) -> _T:
        lines = board.of(client.host.name)
        try:
            return act(client, lines)
        finally:
            lines.settle()

    works = [partial(work, client) for client in clients]
    turns, interrupted = take_turns(works, at_once=at_once, abandon=abandon, enough=enough)
    screen.settle()
    board.tell()
    return {client.host.name: turn for client, turn in zip(clients, turns, strict=True)}, interrupted


def row_of(turn: "Turn[_T]", *, release: str = "", note: str = "") -> Row:
    """What became of a turn; `release` and `note` if it went well."""
    took = duration(turn.seconds * 1000)
    match turn.error:
        case Problem() as problem:
            return Row(problem.outcome, "", took, sentence(problem), problem)
        case None if turn.begun:
            return Row("done", release, took, note)
        case None:
            return Row("not begun")
        case _:
            return Row("interrupted", "", took)


def account(rows: Mapping[str, Row], screen: Screen, *, summary: bool) -> int:
    """Show what became of all, and every problem in full, the output of others last; the worst's exit code."""
    if summary:
        head = ("HOST", "OUTCOME", "RELEASE", "TOOK", "")
        for line in ["", *table(head, [(name, *row[:4]) for name, row in rows.items()])]:
            screen.line(line)
    screen.settle()
    problems = [(name, row.problem) for name, row in rows.items() if row.problem is not None]
    for name, problem in sorted(problems, key=lambda one: bool(one[1].output)):
        show_problem(problem, host=name)
    return worst([problem for _, problem in problems])


def worst(problems: Sequence[Problem]) -> int:
    """The exit code of the worst; 0 without any."""
    return max((problem.exit_code for problem in problems), key=_BADNESS.index, default=0)


def interruption(turns: "Mapping[str, Turn[_T]]", *, more: Sequence[str] = ()) -> Interrupted:
    """What goes on at each host after Ctrl-C, and `more`."""
    lines = ["Interrupted"]
    for name, turn in turns.items():
        if turn.interrupted:
            lines.append(str(turn.error) or f"{name}: what it came to, {asking(name)} tells")
    left = [name for name, turn in turns.items() if not turn.begun]
    if left:
        lines.append(f"Not begun: {', '.join(left)}")
    return Interrupted("\n  ".join([*lines, *more]))


def _make_room(hosts: int) -> None:
    """Let this process open what so many hosts need: a connection, what ssh says, and more while it starts."""
    import resource  # Late: one host does without.

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 256 + 4 * hosts
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _asked(client: Client, screen: Screen, *, ask: Callable[[Client], _T]) -> _T:
    screen.passing("  asking ...")
    return ask(client)
