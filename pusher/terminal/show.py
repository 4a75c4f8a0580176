"""What people see: progress as it happens, tables, and errors with the output of others last.

Invariant: nothing that comes from elsewhere (an agent, a hook, a file's name) reaches the terminal with its
control characters alive. On a terminal a line may change in place; in a pipe every line is final.
"""

import copy
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, TextIO

from pusher.terminal.output import pour
from pusher.wire import Event, Happened, Link, Problem

# C0 without tab and newline, DEL, C1; and what reorders or hides text: bidirectional controls, line and
# paragraph separators, lone surrogates.
_ALIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_REDRAW_S = 0.1
_LINKS_MOST = 5


def printable(text: object) -> str:
    """The text with every character that could do something to a terminal spelled out."""
    return _ALIVE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


class Screen:
    """Standard output, for one command; `of_host` is the same screen with its lines marked.

    Threads may share it: a line is written whole, whoever else has something to say.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        # Where nobody says what the terminal understands, it is not taken to understand anything.
        self.live = self._out.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        self._lost: list[OSError] = []
        self._prefix = ""
        self._passing: list[str] = []
        self._drawn = time.monotonic()
        self._lock = threading.Lock()

    @property
    def lost(self) -> OSError | None:
        """Why nothing more can be written; None as long as all was. The work goes on, for it has an exit code."""
        return self._lost[0] if self._lost else None

    def of_host(self, name: str, *, width: int = 0) -> Self:
        """The screen for one of several hosts: each line begins with its name."""
        twin = copy.copy(self)
        twin._prefix = f"{printable(name):<{width}}  "
        return twin

    def line(self, text: str = "") -> None:
        """A line that stays."""
        self.draw(self._lines(text))

    def document(self, document: Mapping[str, Any]) -> None:
        """A JSON object in a line of its own, whatever the host, in printable ASCII alone."""
        self.draw(json.dumps(document, sort_keys=True).replace("\x7f", r"\u007f") + "\n")

    def passing(self, text: str) -> None:
        """A line for now: the next one takes its place. Nothing in a pipe."""
        self.draw("", [f"{self._prefix}{printable(text)}"])

    def settle(self) -> None:
        """Take back the lines that pass, for somebody else is about to write."""
        if self._passing:
            self.draw("")

    def draw(self, text: str, passing: Sequence[str] = ()) -> None:
        """Write whole lines that stay, and beneath them those that pass, in the place of the last such.

        On a terminal no more pass than fit on it, each cut to its width; in a pipe none.
        """
        shown: list[str] = []
        if passing and self.live:
            import shutil  # Late: it brings along three compressors.

            columns, rows = shutil.get_terminal_size()
            shown = [one.replace("\n", " ")[: columns - 1] for one in passing[: max(1, rows - 2)]]
        with self._lock:
            # Cleared together with what comes next: an empty line in between would flicker.
            above = len(self._passing) - 1
            clear = "" if above < 0 else "\r\x1b[K" if above == 0 else f"\r\x1b[{above}A\x1b[J"
            self._passing[:] = shown
            if clear or text or shown:
                error = pour(self._out, clear + text + "\n".join(shown))
                if error is not None:
                    self._lost.append(error)

    def dangling(self, links: Sequence[Link]) -> None:
        """Warn of links that travel without what they lead to."""
        for link in links[:_LINKS_MOST]:
            self.line(f"warning: the link {link.path} -> {link.target} leads to nothing that is sent")
        if len(links) > _LINKS_MOST:
            self.line(f"warning: so do {len(links) - _LINKS_MOST} more links")

    def sent(self, done: int, total: int) -> None:
        """How many bytes of the files have been sent; draws as often as eyes can follow."""
        now = time.monotonic()
        if self.live and now - self._drawn >= _REDRAW_S:
            self._drawn = now
            self.passing(f"  sending  {bytes_(done)} of {bytes_(total)}")

    def event(self, event: Event) -> None:
        """What the agent says has happened."""
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
                pass  # `started` says what was asked for, `finished` is the caller's, and new ones may come.

    def _done(self, name: str, data: Any) -> None:
        self.line(f"  {name:<32} {duration(data.get('ms')):>8}")

    def _lines(self, text: str) -> str:
        return "".join(f"{self._prefix}{part}".rstrip() + "\n" for part in printable(text).split("\n"))


def show_problem(problem: Problem, *, host: str = "") -> None:
    """An error on standard error: what, why, what to do; then, last of all, what others wrote."""
    said = sentence(problem)
    who = f"{host}: " if host and not said.startswith(f"{host} ") else ""
    lines = [f"pusher: {printable(who + said)}"]
    if problem.hint:
        lines.append(f"  {printable(problem.hint)}")
    if problem.output:
        lines += ["", printable(problem.output).rstrip("\n")]
    pour(sys.stderr, "\n".join(lines) + "\n")


def sentence(problem: Problem) -> str:
    """What could not be done, and why."""
    return f"{problem.what}: {problem.why}" if problem.why else problem.what


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines in columns as wide as they need to be."""
    cells = [[printable(cell).replace("\n", " ") for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells]


def duration(ms: object) -> str:
    """Milliseconds as people read them: `12 ms`, `1.4 s`, `2 min 5 s`. Empty for anything but a number."""
    if isinstance(ms, bool) or not isinstance(ms, int | float):
        return ""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms // 60_000:.0f} min {ms % 60_000 // 1000:.0f} s"


def bytes_(size: float) -> str:
    """A number of bytes as people read them, in powers of 1000."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def amount(files: int, size: int) -> str:
    """So many files of so many bytes together."""
    return f"{files} file{'' if files == 1 else 's'}, {bytes_(size)}"


def release_name(release: object) -> str:
    """A release as an agent tells of it, in words: its version and its id; `-` for none."""
    if not isinstance(release, Mapping):
        return "-"
    return f"{release.get('version')} ({release.get('release')})"


def moment(timestamp: object) -> str:
    """An RFC 3339 time without its T, decimals and Z: `2026-11-23 02:00:55`."""
    return str(timestamp or "")[:19].replace("T", " ")
