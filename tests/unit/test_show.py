"""Output is readable, and nothing in it controls the terminal."""

import io
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.terminal.screen import Screen, print_problem
from pusher.terminal.text import byte_count, duration, moment, printable, table
from pusher.wire import Code, Event, Failed, Happened, Link, Refused


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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


def test_a_terminal_sees_each_step_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    a_deployment(Screen(out))
    assert "  unpack ...\r\x1b[K  unpack                              12 ms\n" in out.getvalue()
    assert "  hook before-symlink (release) ...\r\x1b[K    | migrating" in out.getvalue()
    assert "  undo of unpack ...\r\x1b[K  undo of unpack" in out.getvalue()


def test_a_passing_line_never_wraps_and_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    screen = Screen(out)
    screen.of_host("web1", width=5).passing("a line\nthat is much too long")
    screen.clear()
    screen.clear()
    assert out.getvalue() == "web1   a line that \r\x1b[K"


def test_a_dumb_terminal_is_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    screen = Screen(out)
    screen.passing("for now")
    screen.line("for good")
    assert out.getvalue() == "for good\n"


def test_the_number_of_bytes_is_drawn_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    now = [0.0]
    screen = Screen(out, elapsed=lambda: now[0])
    screen.sent(1, 2_000_000)
    assert out.getvalue() == ""
    now[0] += 1
    screen.sent(1_500_000, 2_000_000)
    screen.sent(1_600_000, 2_000_000)
    assert out.getvalue() == "  sending  1.5 MB of 2.0 MB"


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
    assert [line.rstrip() for line in table(("A", "BBB", ""), [("xx", "y", "z\n"), ("", "", "")])] == [
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
