"""The answers of hosts to a question, shown as JSON, as lines of each host, or as one table."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pusher.config import Settings
from pusher.fleet.fleet import ask_each, clients_of
from pusher.terminal.screen import Screen
from pusher.transport.client import Client


def show_answers(
    settings: Settings,
    screen: Screen,
    ask: Callable[[Client], dict[str, Any]],
    lines: Callable[[Mapping[str, Any]], Iterator[str]],
    *,
    as_json: bool,
    together: Callable[[Mapping[str, Mapping[str, Any]]], list[str]] | None = None,
) -> int:
    """Ask the hosts of the command and show each answer in its `lines`, or as JSON. The exit code of the worst.

    `together` makes one table of the answers of several hosts. Raises: Problem, Interrupted.
    """
    several = len(settings.chosen) > 1
    width = max((len(host.name) for host in settings.chosen), default=0)

    def show(found: Mapping[str, dict[str, Any]]) -> None:
        if several and together and not as_json and found:
            for line in together(found):
                screen.line(line)
            return
        for name, document in found.items():
            if as_json:
                screen.document({**document, "address": name})
                continue
            marked = screen.of_host(name, width=width) if several else screen
            for line in lines(document):
                marked.line(line)

    with clients_of(settings) as clients:
        return ask_each(clients, ask, show, screen)
