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
from typing import Any, Self, TextIO

from pusher.terminal.output import write
from pusher.terminal.text import byte_count, duration, printable, sentence
from pusher.wire import Event, Happened, Link, Problem

_REDRAW_S = 0.1
_LINKS_MOST = 5


class Screen:
    """Standard output, for one command. `of_host` is the same screen, with a host's name before each line.

    Threads may share it: every line is written whole. `elapsed` is a clock in seconds.
    """

    def __init__(self, out: TextIO | None = None, *, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stdout
        self._elapsed = elapsed
        # Without TERM, nothing is known about the terminal: treat it as a pipe.
        self.live = self._out.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        self._lost: list[OSError] = []
        self._prefix = ""
        self._passing: list[str] = []
        self._drawn = elapsed()
        self._lock = threading.Lock()

    @property
    def lost(self) -> OSError | None:
        """Why output was lost; None if all was written. The command goes on: it has an exit code to return."""
        return self._lost[0] if self._lost else None

    def muted(self) -> Self:
        """A screen that shows nothing: for the progress of a command whose output is a document."""
        twin = copy.copy(self)
        twin._out, twin.live, twin._passing = _Nowhere(), False, []
        return twin

    def of_host(self, name: str, *, width: int = 0) -> Self:
        """The screen of one of several hosts: each line begins with its name."""
        twin = copy.copy(self)
        twin._prefix = f"{printable(name):<{width}}  "
        return twin

    def line(self, text: str = "") -> None:
        """Print a line that stays."""
        self.draw(self._lines(text))

    def document(self, document: Mapping[str, Any]) -> None:
        """Print a JSON object as one line of printable ASCII, without the name of a host."""
        self.draw(json.dumps(document, sort_keys=True).replace("\x7f", r"\u007f") + "\n")

    def passing(self, text: str) -> None:
        """Show a line until the next one. In a pipe, nothing."""
        self.draw("", [f"{self._prefix}{printable(text)}"])

    def clear(self) -> None:
        """Remove the passing lines: another program, or another stream, is about to write."""
        if self._passing:
            self.draw("")

    def draw(self, text: str, passing: Sequence[str] = ()) -> None:
        """Print whole lines that stay, and below them the passing lines, which replace the last ones.

        On a terminal, only as many passing lines as fit, each cut to its width; in a pipe none.
        """
        shown: list[str] = []
        if passing and self.live:
            import shutil  # here, because it imports three compressors

            columns, rows = shutil.get_terminal_size()
            shown = [one.replace("\n", " ")[: columns - 1] for one in passing[: max(1, rows - 2)]]
        with self._lock:
            # Cleared together with the next text: an empty line in between would flicker.
            above = len(self._passing) - 1
            clear = "" if above < 0 else "\r\x1b[K" if above == 0 else f"\r\x1b[{above}A\x1b[J"
            self._passing[:] = shown
            if clear or text or shown:
                error = write(self._out, clear + text + "\n".join(shown))
                if error is not None:
                    self._lost.append(error)

    def dangling(self, links: Sequence[Link]) -> None:
        """Warn about links whose target is not sent."""
        for link in links[:_LINKS_MOST]:
            self.line(f"warning: the link {link.path} -> {link.target} is sent without its target")
        if len(links) > _LINKS_MOST:
            self.line(f"warning: so are {len(links) - _LINKS_MOST} more links")

    def sent(self, done: int, total: int) -> None:
        """Show how many bytes of the files have been sent, a few times a second."""
        now = self._elapsed()
        if self.live and now - self._drawn >= _REDRAW_S:
            self._drawn = now
            self.passing(f"  sending  {byte_count(done)} of {byte_count(total)}")

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
                self.line(f"  {undo}{name} FAILED{': ' if title else ''}{title}")
            case Happened.UNDO_STARTED:
                self.passing(f"  undo of {name} ...")
            case Happened.UNDO_DONE:
                self._done(f"undo of {name}", data)
            case Happened.OUTPUT:
                self.line(f"    | {str(data.get('text', '')).rstrip()}")
            case _:
                pass  # `started` repeats the command, the caller shows `finished`, newer agents may have others

    def _done(self, name: str, data: Any) -> None:
        self.line(f"  {name:<32} {duration(data.get('ms')):>8}")

    def _lines(self, text: str) -> str:
        return "".join(f"{self._prefix}{part}".rstrip() + "\n" for part in printable(text).split("\n"))


class _Nowhere(io.StringIO):
    """A stream that keeps nothing."""

    def write(self, text: str, /) -> int:
        return len(text)


def print_problem(problem: Problem, *, host: str = "") -> None:
    """Print a problem to standard error: what, why, what to do; last the output of other programs."""
    text = sentence(problem)
    prefix = f"{host}: " if host and not text.startswith(f"{host} ") else ""
    lines = [f"pusher: {printable(prefix + text)}"]
    if problem.hint:
        lines.append(f"  {printable(problem.hint)}")
    if problem.output:
        lines += ["", printable(problem.output).rstrip("\n")]
    write(sys.stderr, "\n".join(lines) + "\n")
