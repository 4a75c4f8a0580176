"""One command for one host or for several: all at once, each with lines of its own.

Invariant: hosts do not depend on each other. A problem of one host is reported, and stops no other.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pusher.config import Settings
from pusher.errors import Interrupted, Usage
from pusher.fleet.outcomes import interruption, print_outcomes, row_of
from pusher.host_choice import CONFIG_NAME
from pusher.terminal.screen import Screen
from pusher.transport.client import Client

if TYPE_CHECKING:
    from pusher.fleet.pool import Result

AT_ONCE = 8
"""How many hosts at a time: fewer than a jump host accepts at once (sshd's MaxStartups begins to refuse at 10)."""

_T = TypeVar("_T")


@contextmanager
def clients_of(settings: Settings) -> Iterator[list[Client]]:
    """A client for each host of the command, closed at the end. With several hosts, ssh must not ask anything.

    Raises: Usage, if no host is named.
    """
    if not settings.chosen:
        hint = "Name one with --host or PUSHER_HOST, or write it into pusher.toml. For example: --host web1"
        if settings.environments:
            hint = f"Name an environment: {' or '.join(f'--env {name}' for name in settings.environments)}"
        why = "" if settings.file else f"there is no {CONFIG_NAME} from {os.getcwd()} upwards"
        raise Usage("No host is named", why=why, hint=hint)
    alone = len(settings.chosen) == 1
    if not alone:
        _raise_file_limit(len(settings.chosen))
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
    grouped: bool = False,
) -> int:
    """Run `act` on every host; the exit code of the worst. `act` returns its result in one line.

    The Problem of a single host is raised. With several, problems are printed when all have ended. If `grouped`,
    so are the lines of `act`, host by host. Raises: Problem, Interrupted.
    """
    if len(clients) == 1:
        act(clients[0], screen)
        return 0
    results, interrupted = run_on(clients, act, screen, at_once=AT_ONCE, grouped=grouped)
    rows = {name: row_of(result, note=str(result.value)) for name, result in results.items()}
    exit_code = print_outcomes(rows, screen, summary=summary)
    if interrupted:
        raise interruption(results)
    return exit_code


def on_each(
    settings: Settings, screen: Screen, act: Callable[[Client, Screen], str], *, grouped: bool = True
) -> int:
    """`each`, on the hosts of the command, without a table."""
    with clients_of(settings) as clients:
        return each(clients, act, screen, summary=False, grouped=grouped)


def ask_each(
    clients: Sequence[Client],
    ask: Callable[[Client], _T],
    show: Callable[[Mapping[str, _T]], None],
    screen: Screen,
) -> int:
    """Ask every host, then show the answers by the hosts' names, in their order. The exit code of the worst.

    Raises: as `each`.
    """
    if len(clients) == 1:
        show({clients[0].host.name: ask(clients[0])})
        return 0
    results, interrupted = run_on(clients, partial(_asked, ask=ask), screen, at_once=AT_ONCE)
    if interrupted:
        raise Interrupted
    show({name: result.value for name, result in results.items() if result.value is not None})
    return print_outcomes({name: row_of(result) for name, result in results.items()}, screen, summary=False)


def run_on(
    clients: Sequence[Client],
    act: Callable[[Client, Screen], _T],
    screen: Screen,
    *,
    at_once: int,
    grouped: bool = False,
    enough: "Callable[[Result[_T]], bool]" = lambda result: False,
) -> "tuple[dict[str, Result[_T]], bool]":
    """Run `act` on the hosts in a pool, on one board. The results by the hosts' names; whether Ctrl-C ended it."""
    # Imported here: a single host does not need them.
    from pusher.fleet.pool import run_pool
    from pusher.terminal.board import Board

    board = Board(screen, [client.host.name for client in clients], grouped=grouped)

    def abandon() -> None:
        for client in clients:
            client.abandon()

    def work(client: Client) -> _T:
        lines = board.of(client.host.name)
        try:
            return act(client, lines)
        finally:
            lines.clear()

    works = [partial(work, client) for client in clients]
    results, interrupted = run_pool(works, at_once=at_once, abandon=abandon, enough=enough)
    screen.clear()
    board.print_grouped()
    return {client.host.name: result for client, result in zip(clients, results, strict=True)}, interrupted


def _raise_file_limit(hosts: int) -> None:
    """Allow this process the files for so many hosts: a connection, ssh's messages, and more while it starts."""
    import resource  # here: a single host does not need it

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 256 + 4 * hosts
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _asked(client: Client, screen: Screen, *, ask: Callable[[Client], _T]) -> _T:
    screen.passing("  asking ...")
    return ask(client)
