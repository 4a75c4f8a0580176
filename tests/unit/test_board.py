"""The output of several hosts at once, as a simulated terminal shows it."""

import io

import pytest

from pusher.terminal.board import Board
from pusher.terminal.screen import Screen
from pusher.wire import Event, Happened
from tests.seen import SeenTerminal


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> SeenTerminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "6")
    return SeenTerminal(columns=40, rows=6)


def happen(screen: Screen, happened: str, **data: object) -> None:
    screen.event(Event(1, 0, happened, data))


def test_a_terminal_shows_one_line_for_each_host_below_the_lines_that_stay(terminal: SeenTerminal) -> None:
    board = Board(Screen(terminal), ["web1", "database"])
    one, two = board.of("web1"), board.of("database")
    one.passing("  asking ...")
    assert terminal.seen() == ["web1        asking ...", "(1 not begun)"]
    happen(two, Happened.STEP_STARTED, step="unpack")
    assert terminal.seen() == ["web1        asking ...", "database    unpack ..."]
    happen(one, Happened.OUTPUT, source="hook", text="migrating\x1b[2J")
    happen(two, Happened.STEP_DONE, step="unpack", ms=12)
    assert terminal.seen() == [
        r"web1          | migrating\x1b[2J",
        "web1        asking ...",
        "database    unpack  12 ms",
    ]
    two.line("done, and with a name\nof two lines")
    two.clear()
    assert terminal.seen()[1:] == [
        "database  done, and with a name",
        "database  of two lines",
        "web1        asking ...",
    ]
    one.clear()
    assert terminal.seen()[-1] == "database  of two lines"


def test_no_more_lines_change_than_the_terminal_has_and_none_wraps(terminal: SeenTerminal) -> None:
    names = [f"web{number}" for number in range(10)]
    screen = Screen(terminal)
    board = Board(screen, names)
    for name in names:
        board.of(name).passing("x" * 100)
    assert terminal.seen() == [f"web{number}  {'x' * 33}…" for number in range(4)]
    screen.clear()
    assert terminal.seen() == [""]


def test_a_pipe_gets_every_step_of_every_host_in_whole_lines() -> None:
    out = io.StringIO()
    board = Board(Screen(out), ["web1", "web2"])
    for name in ("web1", "web2"):
        screen = board.of(name)
        screen.passing("  asking ...")
        happen(screen, Happened.STEP_DONE, step="unpack", ms=12)
        screen.clear()
    assert out.getvalue() == "".join(
        f"{name}    unpack                              12 ms\n" for name in ("web1", "web2")
    )


def test_grouped_lines_are_printed_host_by_host(terminal: SeenTerminal) -> None:
    board = Board(Screen(terminal), ["web1", "web2"], grouped=True)
    one, two = board.of("web1"), board.of("web2")
    two.line("a")
    one.line("b")
    two.line("c")
    one.passing("still there")
    assert terminal.seen() == ["web1  still there"]
    one.clear()
    two.document({})
    board.print_grouped()
    assert terminal.seen() == ["web1  b", "web2  a", "web2  c", "{}"]
