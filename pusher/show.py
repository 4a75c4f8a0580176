"""What people see: progress as it happens, tables, and errors with the output of others last.

Invariant: nothing that comes from elsewhere (an agent, a hook, a file's name) reaches the terminal with its
control characters alive. On a terminal a line may change in place; in a pipe every line is final.
"""

import contextlib
import copy
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TextIO

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
    """Standard output, for one command; `of_host` is the same screen with its lines marked."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._live = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._prefix = ""
        self._passing: list[str] = []
        self._drawn = time.monotonic()

    def of_host(self, name: str, *, width: int = 0) -> Self:
        """The screen for one of several hosts: each line begins with its name."""
        twin = copy.copy(self)
        twin._prefix = f"{printable(name):<{width}}  "
        return twin

    def line(self, text: str = "") -> None:
        """A line that stays."""
        for part in printable(text).split("\n"):
            self._write(f"{self._prefix}{part}".rstrip() + "\n")

    def document(self, document: Mapping[str, Any]) -> None:
        """A JSON object in a line of its own, whatever the host, in printable ASCII alone."""
        self._write(json.dumps(document, sort_keys=True).replace("\x7f", r"\u007f") + "\n")

    def passing(self, text: str) -> None:
        """A line for now: the next one takes its place. Nothing in a pipe."""
        if self._live:
            import shutil  # Late: it brings along three compressors.

            width = shutil.get_terminal_size().columns - 1
            shown = f"{self._prefix}{printable(text)}".replace("\n", " ")[:width]
            self._write(shown)
            self._passing.append(shown)

    def settle(self) -> None:
        """Take back the line that passes, for somebody else is about to write."""
        if self._passing:
            self._write("")

    def dangling(self, links: Sequence[Link]) -> None:
        """Warn of links that travel without what they lead to."""
        for link in links[:_LINKS_MOST]:
            self.line(f"warning: the link {link.path} -> {link.target} leads to nothing that is sent")
        if len(links) > _LINKS_MOST:
            self.line(f"warning: so do {len(links) - _LINKS_MOST} more links")

    def sent(self, done: int, total: int) -> None:
        """How many bytes of the files have been sent; draws as often as eyes can follow."""
        now = time.monotonic()
        if self._live and now - self._drawn >= _REDRAW_S:
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

    def _write(self, text: str) -> None:
        # Cleared together with what comes next: an empty line in between would flicker.
        clear = "\r\x1b[K" if self._passing else ""
        self._passing.clear()
        with _pipe_may_close(self._out):
            self._out.write(clear + text)
            self._out.flush()


def show_problem(problem: Problem, *, host: str = "") -> None:
    """An error on standard error: what, why, what to do; then, last of all, what others wrote."""
    who = f"{host}: " if host else ""
    sentence = f"{problem.what}: {problem.why}" if problem.why else problem.what
    lines = [f"pusher: {who}{printable(sentence)}"]
    if problem.hint:
        lines.append(f"  {printable(problem.hint)}")
    if problem.output:
        lines += ["", printable(problem.output).rstrip("\n")]
    with _pipe_may_close(sys.stdout):
        sys.stdout.flush()
    with _pipe_may_close(sys.stderr):
        print("\n".join(lines), file=sys.stderr, flush=True)


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


def moment(timestamp: object) -> str:
    """An RFC 3339 time without its T, decimals and Z: `2026-11-23 02:00:55`."""
    return str(timestamp or "")[:19].replace("T", " ")


@contextlib.contextmanager
def _pipe_may_close(out: TextIO) -> Iterator[None]:
    """Go on without the reader when it leaves (`pusher send v3 | head`): the exit code is still to come."""
    try:
        yield
    except BrokenPipeError:
        # Python flushes standard output once more at exit, and must find something that takes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
