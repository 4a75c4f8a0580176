"""One command for one host or for several, one after the other.

Invariant: hosts do not depend on each other; what fails on one is told, and the next one has its turn.
"""

from collections.abc import Callable, Sequence

from pusher.client import Client
from pusher.errors import Interrupted, Usage
from pusher.hosts import Host
from pusher.show import Screen, show_problem, table
from pusher.wire import Problem

# The worse, the later: nothing done, not known, undone, stuck.
_BADNESS = (0, 2, 4, 5, 1, 6)


def each(
    clients: Sequence[Client], act: Callable[[Client, Screen], str], screen: Screen, *, summary: bool = True
) -> int:
    """Run `act` on every host; the exit code of the worst. `act` returns its result in one line.

    With one host its Problem is raised. With several they are shown when all have had their turn, the
    output of others last. Raises: Problem, Interrupted.
    """
    if len(clients) == 1:
        act(clients[0], screen)
        return 0
    width = max(len(client.host.name) for client in clients)
    rows: list[tuple[str, str, str]] = []
    problems: list[tuple[str, Problem]] = []
    for at, client in enumerate(clients):
        name = client.host.name
        try:
            rows.append((name, "done", act(client, screen.of_host(name, width=width))))
        except Problem as problem:
            rows.append((name, problem.outcome, problem.what))
            problems.append((name, problem))
        except Interrupted as error:
            left = ", ".join(other.host.name for other in clients[at + 1 :])
            raise Interrupted(f"{error}. Not begun: {left}" if left else str(error)) from error
    if summary:
        for line in ["", *table(("HOST", "OUTCOME", ""), rows)]:
            screen.line(line)
    screen.settle()
    for name, told in sorted(problems, key=lambda one: bool(one[1].output)):
        show_problem(told, host=name)
    return max((told.exit_code for _, told in problems), key=_BADNESS.index, default=0)


def chosen(hosts: Sequence[Host], *, known: Sequence[str]) -> Sequence[Host]:
    """The hosts of a command. Raises: Usage, if there are none."""
    if hosts:
        return hosts
    there = f"pusher.toml knows {', '.join(known)}" if known else "For example: --host web1"
    raise Usage("No host is named", hint=f"Name one with --host, or PUSHER_HOST. {there}")
