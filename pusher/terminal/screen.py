"""The output of one command: lines that stay, progress as it happens, and problems.

Invariant: text is escaped before it reaches the terminal (`pusher.terminal.text`). On a terminal a line may change
in place; in a pipe every line is final.
"""

import copy
import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TextIO

from pusher.terminal.output import write
from pusher.terminal.text import Line, Table, Tone, byte_count, duration, printable, sentence
from pusher.wire import Event, Happened, Link, Problem

if TYPE_CHECKING:
    from pusher.terminal.drawing import Drawing

_REDRAW_S = 0.1
_LINKS_MOST = 5
_SCREEN_LINES = 20


class Screen:
    """Standard output, for one command. `of_host` is the same screen, with a host's name before each line.

    Threads may share it: every line is written whole. `elapsed` is a clock in seconds.
    """

    def __init__(self, out: TextIO | None = None, *, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._output = _Output(out or sys.stdout)
        self._elapsed = elapsed
        self._prefix = ""
        self._drawn = self._began = elapsed()

    @property
    def live(self) -> bool:
        """Whether it is a terminal, where lines can change in place."""
        return self._output.live

    @property
    def lost(self) -> OSError | None:
        """Why output was lost; None if all was written. The command goes on: it has an exit code to return."""
        return self._output.lost

    def muted(self) -> Self:
        """A screen that shows nothing: for the progress of a command whose output is a document."""
        twin = copy.copy(self)
        twin._output = _Output(_Nowhere())
        return twin

    def of_host(self, name: str, *, width: int = 0) -> Self:
        """The screen of one of several hosts: each line begins with its name."""
        twin = copy.copy(self)
        twin._prefix = f"{printable(name):<{width}}  "
        return twin

    def line(self, text: str = "", *, tone: Tone = Tone.PLAIN) -> None:
        """Print a line that stays."""
        self.draw([Line(f"{self._prefix}{part}".rstrip(), tone) for part in printable(text).split("\n")])

    def show(self, found: str | Table) -> None:
        """Print a line, or a table."""
        if isinstance(found, str):
            self.line(found)
        elif self._prefix:
            self.draw([Line(f"{self._prefix}{line}") for line in found.lines()])
        else:
            self.draw([found])

    def document(self, document: Mapping[str, Any]) -> None:
        """Print a JSON object as one line of printable ASCII, without the name of a host."""
        self.draw([Line(json.dumps(document, sort_keys=True).replace("\x7f", r"\u007f"))])

    def passing(self, text: str) -> None:
        """Show a line until the next one. In a pipe, nothing."""
        self.draw([], [f"{self._prefix}{printable(text)}".replace("\n", " ")])

    def clear(self) -> None:
        """Remove the passing lines: another program, or another stream, is about to write."""
        if self._output.passing:
            self.draw([])

    def draw(self, above: Sequence[Line | Table], passing: Sequence[str] = ()) -> None:
        """Print whole lines that stay, and below them the passing lines, which replace the last ones.

        On a terminal, only as many passing lines as fit, each cut to its width; in a pipe none.
        """
        self._output.draw(above, passing)

    def dangling(self, links: Sequence[Link]) -> None:
        """Warn about links whose target is not sent."""
        for link in links[:_LINKS_MOST]:
            text = f"warning: the link {link.path} -> {link.target} is sent without its target"
            self.line(text, tone=Tone.WARNING)
        if len(links) > _LINKS_MOST:
            self.line(f"warning: so are {len(links) - _LINKS_MOST} more links", tone=Tone.WARNING)

    def sent(self, done: int, total: int) -> None:
        """Show how many bytes of the files have been sent, and how fast, a few times a second."""
        now = self._elapsed()
        if not done:
            self._began = now
        if self.live and now - self._drawn >= _REDRAW_S:
            self._drawn = now
            rate = byte_count(done / max(now - self._began, _REDRAW_S))
            self.passing(f"  sending  {byte_count(done)} of {byte_count(total)}, {rate}/s")

    def event(self, event: Event) -> None:
        """Show an event of a deployment."""
        data = event.data
        name = str(data.get("step", data.get("hook", "")))
        if "hook" in data:
            name = f"hook {name} ({data.get('origin', '')})"
        match event.event:
            case Happened.STEP_STARTED | Happened.HOOK_STARTED:
                self.passing(f"  {name} ...")
            case Happened.STEP_DONE | Happened.HOOK_DONE:
                self._done(name, data)
            case Happened.STEP_FAILED | Happened.HOOK_FAILED | Happened.UNDO_FAILED:
                undo = "undo of " if event.event == Happened.UNDO_FAILED else ""
                problem = data.get("problem")
                title = problem.get("title", "") if isinstance(problem, dict) else ""
                self.line(f"  {undo}{name} FAILED{': ' if title else ''}{title}", tone=Tone.BAD)
            case Happened.UNDO_STARTED:
                self.passing(f"  undo of {name} ...")
            case Happened.UNDO_DONE:
                self._done(f"undo of {name}", data)
            case Happened.OUTPUT:
                self.line(f"    | {str(data.get('text', '')).rstrip()}", tone=Tone.QUIET)
            case _:
                pass  # `started` repeats the command, the caller shows `finished`, newer agents may have others

    def _done(self, name: str, data: Any) -> None:
        self.line(f"  {name:<32} {duration(data.get('ms')):>8}")


class _Output:
    """A stream with its terminal. The screens of all hosts share it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        # Without TERM, nothing is known about the terminal: treat it as a pipe.
        self.live = out.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        self.lost: OSError | None = None
        self.passing = False
        self._drawing: Drawing | None = None
        self._lock = threading.Lock()

    def draw(self, above: Sequence[Line | Table], passing: Sequence[str]) -> None:
        with self._lock:
            passing = passing if self.live else ()
            if not self.passing and not passing and not (self.live and any(map(_is_drawn, above))):
                if above:
                    self._write("".join(f"{line}\n" for one in above for line in _plain(one)))
                return
            if self._drawing is None:
                from pusher.terminal.drawing import Drawing  # here, because a pipe needs none

                self._drawing = Drawing(self._write)
            self._drawing.draw(above, passing)
            self.passing = bool(passing)

    def _write(self, text: str) -> None:
        error = write(self._out, text)
        if error is not None and self.lost is None:
            self.lost = error


def _is_drawn(one: Line | Table) -> bool:
    return isinstance(one, Table) or one.tone is not Tone.PLAIN


def _plain(one: Line | Table) -> Sequence[str]:
    return one.lines() if isinstance(one, Table) else [one.text]


class _Nowhere(io.StringIO):
    """A stream that keeps nothing."""

    def write(self, text: str, /) -> int:
        return len(text)


def print_problem(problem: Problem, *, host: str = "") -> None:
    """Print a problem to standard error: what, why, what to do; last the output of other programs.

    After an output that fills a screen, what and why come once more: a person looks at the end first.
    """
    text = sentence(problem)
    prefix = f"{host}: " if host and not text.startswith(f"{host} ") else ""
    said = Line(f"pusher: {printable(prefix + text)}", Tone.BAD)
    lines = [said]
    if problem.hint:
        lines.append(Line(f"  {printable(problem.hint)}"))
    if problem.output:
        output = printable(problem.output).rstrip("\n").split("\n")
        lines += [Line(""), *map(Line, output)]
        if len(output) > _SCREEN_LINES:
            lines += [Line(""), said]
    Screen(sys.stderr).draw(lines)
