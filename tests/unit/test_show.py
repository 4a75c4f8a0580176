"""Output is readable, and nothing in it controls the terminal."""

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.terminal.screen import Screen, print_problem
from pusher.terminal.text import Table, Tone, age, byte_count, duration, moment, printable
from pusher.wire import Code, Event, Failed, Happened, Link, Refused
from tests.seen import SeenTerminal


def happen(screen: Screen, happened: str, **data: object) -> None:
    screen.event(Event(1, 0, happened, data))


def a_deployment(screen: Screen) -> None:
    screen.line("sending flask-demo v3 to web1: 2 files, 455 bytes")
    happen(screen, Happened.STARTED, deployment="d")
    happen(screen, Happened.STEP_STARTED, step="unpack")
    happen(screen, Happened.STEP_DONE, step="unpack", ms=12)
    happen(screen, Happened.HOOK_STARTED, hook="before-symlink", origin="release")
    happen(screen, Happened.OUTPUT, source="before-symlink", text="migrating \x1b[2J")
    happen(screen, Happened.HOOK_FAILED, hook="before-symlink", origin="release", ms=3, problem={"title": "No"})
    happen(screen, Happened.UNDO_STARTED, step="unpack")
    happen(screen, Happened.UNDO_DONE, step="unpack", ms=1234)
    happen(screen, Happened.UNDO_FAILED, step="switch", ms=1, problem=None)
    happen(screen, "a_newer_event", step="x")


def test_a_pipe_gets_plain_lines() -> None:
    out = io.StringIO()
    a_deployment(Screen(out))
    assert out.getvalue().splitlines() == [
        "sending flask-demo v3 to web1: 2 files, 455 bytes",
        "  unpack                              12 ms",
        r"    | migrating \x1b[2J",
        "  hook before-symlink (release) FAILED: No",
        "  undo of unpack                      1.2 s",
        "  undo of switch FAILED",
    ]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> SeenTerminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "12")
    return SeenTerminal(columns=40, rows=12)


def test_a_terminal_sees_each_step_begin_and_no_trace_of_that_when_it_has_ended(terminal: SeenTerminal) -> None:
    screen = Screen(terminal)
    happen(screen, Happened.STEP_STARTED, step="unpack")
    assert terminal.seen() == ["  unpack ..."]
    happen(screen, Happened.STEP_DONE, step="unpack", ms=12)
    assert terminal.seen() == ["  unpack                              12", " ms"]


def test_a_terminal_shows_the_same_lines_as_a_pipe(
    terminal: SeenTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    wide, pipe = SeenTerminal(), io.StringIO()
    a_deployment(Screen(wide))
    a_deployment(Screen(pipe))
    assert wide.seen() == pipe.getvalue().splitlines()


def test_colours_say_what_a_line_means(terminal: SeenTerminal) -> None:
    screen = Screen(terminal)
    screen.line("plain")
    screen.line("it is live", tone=Tone.GOOD)
    screen.line("it FAILED", tone=Tone.BAD)
    screen.show(Table(("HOST", "STATE"), [("web1", "done"), ("web2", "failed, at once"), ("web3", "odd")]))
    assert terminal.seen() == [
        "plain",
        "it is live",
        "it FAILED",
        "HOST  STATE",
        "web1  done",
        "web2  failed, at once",
        "web3  odd",
    ]
    shown = ("plain", "it is live", "it FAILED", "done", "failed, at once", "odd")
    found = [terminal.colours(text) for text in shown]
    assert found == [{"default"}, {"green"}, {"red"}, {"green"}, {"red"}, {"default"}]


def test_without_colours_nothing_else_differs(terminal: SeenTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    Screen(terminal).line("it is live", tone=Tone.GOOD)
    assert (terminal.seen(), terminal.colours("it is live")) == (["it is live"], {"default"})


def test_a_table_fits_the_terminal_and_loses_nothing(terminal: SeenTerminal) -> None:
    Screen(terminal).show(Table(("A", "B"), [("x" * 30, "y" * 30)]))
    assert max(map(len, terminal.seen())) <= 40
    assert ("".join(terminal.seen()).count("x"), "".join(terminal.seen()).count("y")) == (30, 30)


def test_a_long_cell_does_not_fold_the_ids_and_times_beside_it(terminal: SeenTerminal) -> None:
    Screen(terminal).show(Table(("VERSION", "RELEASE"), [("v" * 60, "20261128010203Z")]))
    assert terminal.seen()[1] == f"{'v' * 23}  20261128010203Z"
    assert "".join(terminal.seen()).count("v") == 60


def test_a_narrow_terminal_leaves_out_what_it_can_do_without(terminal: SeenTerminal) -> None:
    table = Table(("WHAT", "BY", "ID"), [("w" * 20, "b" * 20, "i" * 10)], ("BY",))
    Screen(terminal).show(table)
    assert terminal.seen() == [f"{'WHAT':<20}  ID", f"{'w' * 20}  {'i' * 10}"]
    assert table.lines() == [f"{'WHAT':<20}  {'BY':<20}  ID", f"{'w' * 20}  {'b' * 20}  {'i' * 10}"]


def test_text_is_no_markup_and_controls_nothing(terminal: SeenTerminal) -> None:
    screen = Screen(terminal)
    screen.line("[red]a[/red] :smile: \x1b[2J", tone=Tone.GOOD)
    screen.show(Table(("[b]", ""), [("[/x] :bug:", "\x1b]0;owned\x07")]))
    screen.passing("[blink]b")
    assert terminal.seen() == [
        r"[red]a[/red] :smile: \x1b[2J",
        "[b]",
        r"[/x] :bug:  \x1b]0;owned\x07",
        "[blink]b",
    ]


def test_a_passing_line_never_wraps_and_is_removed(terminal: SeenTerminal) -> None:
    screen = Screen(terminal)
    screen.of_host("web1", width=5).passing("a line\nthat is much too long for any terminal")
    assert terminal.seen() == ["web1   a line that is much too long for…"]
    screen.clear()
    screen.clear()
    assert terminal.seen() == [""]


def test_the_cursor_is_never_hidden(terminal: SeenTerminal) -> None:
    """A command that is killed must not leave a terminal without one."""
    screen = Screen(terminal)
    screen.passing("working ...")
    screen.clear()
    assert "\x1b[?25l" not in terminal.getvalue()


def test_a_dumb_terminal_is_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = SeenTerminal()
    screen = Screen(out)
    screen.passing("for now")
    screen.line("for good")
    assert out.getvalue() == "for good\n"


def test_the_number_of_bytes_and_their_rate_are_drawn_a_few_times_a_second(terminal: SeenTerminal) -> None:
    now = [0.0]
    screen = Screen(terminal, elapsed=lambda: now[0])
    screen.sent(0, 2_000_000)
    assert terminal.seen() == [""]
    now[0] += 2
    screen.sent(1_500_000, 2_000_000)
    screen.sent(1_600_000, 2_000_000)
    assert terminal.seen() == ["  sending  1.5 MB of 2.0 MB, 750.0 kB/s"]


def test_the_lines_of_several_hosts_begin_with_their_names() -> None:
    out = io.StringIO()
    screen = Screen(out)
    screen.of_host("web1", width=8).line("one\ntwo")
    screen.of_host("database", width=8).line()
    assert out.getvalue() == "web1      one\nweb1      two\ndatabase\n"


@given(st.text())
def test_every_control_character_is_escaped(text: str) -> None:
    shown = printable(text)
    assert not any((ord(one) < 32 and one not in "\n\t") or 0x7F <= ord(one) < 0xA0 for one in shown)
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("done\rFAILED", r"done\rFAILED"),
        ("\x9b2J", r"\x9b2J"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        ("caf\udce9", r"caf\udce9"),
        ("grüße\t日本\n", "grüße\t日本\n"),
    ],
)
def test_terminal_controls_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.dictionaries(st.text(), st.text()))
def test_json_stays_json_on_its_way_to_the_terminal(document: dict[str, str]) -> None:
    out = io.StringIO()
    Screen(out).of_host("web1").document(document)
    line = out.getvalue()
    assert printable(line) == line
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(line) == document


def test_an_error_ends_with_the_output_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    print_problem(
        Failed(Code.HOOK_FAILED, "A hook failed", why="exit code 3", hint="Mend it", output="x\x07\nlast\n")
    )
    assert capsys.readouterr().err == "pusher: A hook failed: exit code 3\n  Mend it\n\nx\\x07\nlast\n"


def test_after_a_screen_of_output_an_error_says_once_more_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    for count in (20, 21):
        output = "line\n" * count
        print_problem(Failed(Code.HOOK_FAILED, "A hook failed", hint="Mend it", output=output))
        once_more = "\npusher: A hook failed\n" if count > 20 else ""
        assert capsys.readouterr().err == f"pusher: A hook failed\n  Mend it\n\n{output}{once_more}"


@pytest.mark.parametrize(
    ("what", "said"),
    [("No", "pusher: web1: No\n"), ("web1 cannot be reached", "pusher: web1 cannot be reached\n")],
)
def test_an_error_of_one_of_several_hosts_names_it_once(
    what: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_problem(Refused(Code.BUSY, what), host="web1")
    assert capsys.readouterr().err == said


def test_columns_are_as_wide_as_they_need_to_be() -> None:
    assert Table(("A", "BBB", ""), [("xx", "y", "z\n"), ("", "", "")]).lines() == [
        "A   BBB",
        "xx  y    z",
        "",
    ]


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (59_900, "59.9 s"),
        (125_400, "2 min 5 s"),
        (None, ""),
        (True, ""),
    ],
)
def test_durations_read_well(ms: object, text: str) -> None:
    assert duration(ms) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (3e9, "3.0 GB")],
)
def test_sizes_read_well(size: float, text: str) -> None:
    assert byte_count(size) == text


@pytest.mark.parametrize(
    ("timestamp", "text"),
    [
        ("2026-11-23T02:00:55.000Z", "now"),
        ("2026-11-23T02:00:00.000Z", "now"),
        ("2026-11-23T01:59:59.000Z", "1 min ago"),
        ("2026-11-23T00:59:00.000Z", "1 h ago"),
        ("2026-11-22T02:00:00.000Z", "1 day ago"),
        ("2026-11-01T02:00:00.000Z", "22 days ago"),
        ("2026-11-01", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_ages_read_well(timestamp: object, text: str) -> None:
    assert age(timestamp, now=datetime(2026, 11, 23, 2, 0, 59, tzinfo=UTC)) == text


def test_times_read_well() -> None:
    assert moment("2026-11-23T02:00:55.000Z") == "2026-11-23 02:00:55"
    assert moment(None) == ""


def test_a_reader_that_leaves_does_not_end_the_command() -> None:
    program = """if True:
        import sys
        from pusher.terminal.screen import Screen, print_problem
        from pusher.wire import Code, Failed
        screen = Screen()
        for _ in range(3):
            screen.line("x" * 100_000)
        print_problem(Failed(Code.INTERNAL, "still here"))
        sys.exit(7)
    """
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", program], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.close(read)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (7, b"pusher: still here\n")


def test_warnings_about_dangling_links_are_limited() -> None:
    out = io.StringIO()
    Screen(out).dangling([Link(f"{n}", "x\x1b") for n in range(7)])
    assert out.getvalue().splitlines()[4:] == [
        r"warning: the link 4 -> x\x1b is sent without its target",
        "warning: so are 2 more links",
    ]
