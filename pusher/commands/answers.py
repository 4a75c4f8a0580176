"""The answers of hosts to a question, shown as JSON, as lines of each host, or as one table."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pusher.config import Settings
from pusher.errors import HistoryChanged
from pusher.fleet.fleet import ask_each, clients_of
from pusher.fleet.history import check_history
from pusher.fleet.outcomes import worst_exit_code
from pusher.fleet.state import state_folder
from pusher.terminal.screen import Screen, print_problem
from pusher.terminal.text import Table
from pusher.transport.client import Client


def members(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The documents in the list `name` of a document; none, if it has no such list."""
    found = document.get(name)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def problem_title(document: Mapping[str, Any]) -> str:
    """The title of the problem in the document of a deployment; empty if it has none."""
    problem = document.get("problem")
    return str(problem.get("title", "")) if isinstance(problem, Mapping) else ""


def show_answers(
    settings: Settings,
    screen: Screen,
    ask: Callable[[Client], dict[str, Any]],
    lines: Callable[[Mapping[str, Any]], Iterator[str | Table]],
    *,
    as_json: bool,
    together: Callable[[Mapping[str, Mapping[str, Any]]], Table] | None = None,
) -> int:
    """Ask the hosts of the command and show each answer in its `lines`, or as JSON. The exit code of the worst.

    An answer that tells of a history which is not the one seen before is shown, and then reported.

    `together` makes one table of the answers of several hosts. Raises: Problem, Interrupted.
    """
    several = len(settings.chosen) > 1
    folder, changed = state_folder(), list[HistoryChanged]()
    width = max((len(host.name) for host in settings.chosen), default=0)

    def asked(client: Client) -> tuple[dict[str, Any], HistoryChanged | None]:
        answer = ask(client)
        return answer, check_history(client, answer, folder=folder)

    def show(answers: Mapping[str, tuple[dict[str, Any], HistoryChanged | None]]) -> None:
        found = {name: answer for name, (answer, _) in answers.items()}
        changed.extend(problem for _, problem in answers.values() if problem is not None)
        if several and together and not as_json and found:
            screen.show(together(found))
            return
        for name, document in found.items():
            if as_json:
                screen.document({**document, "address": name})
                continue
            marked = screen.of_host(name, width=width) if several else screen
            for line in lines(document):
                marked.show(line)

    with clients_of(settings) as clients:
        exit_code = ask_each(clients, asked, show, screen)
    for problem in changed:
        print_problem(problem)
    return exit_code or worst_exit_code(changed)
