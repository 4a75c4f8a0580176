"""The outcome of a command on several hosts: the table, the problems in full, the exit code.

Invariant: every host that was named has a row.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pusher.errors import Interrupted
from pusher.fleet.follow import status_command
from pusher.terminal.screen import Screen, print_problem
from pusher.terminal.text import Table, duration, sentence
from pusher.wire import Problem

if TYPE_CHECKING:
    from pusher.fleet.pool import Result

# From best to worst: done, usage, refused, unreachable, failed, stuck.
_BADNESS = (0, 2, 4, 5, 1, 6)


class Row(NamedTuple):
    """The outcome on one host, for the table. A `problem` sets the exit code and is printed in full."""

    outcome: str
    release: str = ""
    took: str = ""
    note: str = ""
    problem: Problem | None = None


def row_of(result: "Result[Any]", *, release: str = "", note: str = "") -> Row:
    """The row of a result; with `release` and `note` if it went well."""
    took = duration(result.seconds * 1000)
    match result.error:
        case Problem() as problem:
            return Row(problem.outcome, "", took, sentence(problem), problem)
        case None if result.begun:
            return Row("done", release, took, note)
        case None:
            return Row("not begun")
        case _:
            return Row("interrupted", "", took)


def print_outcomes(rows: Mapping[str, Row], screen: Screen, *, summary: bool) -> int:
    """Print the table, if `summary`, then every problem in full. The exit code of the worst.

    Problems with output of other programs come last.
    """
    if summary:
        head = ("HOST", "OUTCOME", "RELEASE", "TOOK", "")
        screen.line()
        screen.show(Table(head, [(name, *row[:4]) for name, row in rows.items()]))
    screen.clear()
    problems = [(name, row.problem) for name, row in rows.items() if row.problem is not None]
    for name, problem in sorted(problems, key=lambda one: bool(one[1].output)):
        print_problem(problem, host=name)
    return worst_exit_code([problem for _, problem in problems])


def worst_exit_code(problems: Sequence[Problem]) -> int:
    """The exit code of the worst problem; 0 without any."""
    return max((problem.exit_code for problem in problems), key=_BADNESS.index, default=0)


def interruption(results: "Mapping[str, Result[Any]]", *, more: Sequence[str] = ()) -> Interrupted:
    """What goes on at each host after Ctrl-C, and the lines `more`."""
    lines = ["Interrupted"]
    for name, result in results.items():
        if result.interrupted:
            lines.append(str(result.error) or f"{name}: to see the result: {status_command(name)}")
    left = [name for name, result in results.items() if not result.begun]
    if left:
        lines.append(f"Not begun: {', '.join(left)}")
    return Interrupted("\n  ".join([*lines, *more]))
