"""What a terminal shows: lines with colours, tables as wide as it is, and below them lines that change in place.

Invariant: text is never read as markup, and every change is one write. `rich` draws it; it is imported only where
something is drawn, and nothing is in a pipe.
"""

import io
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as Columns
from rich.text import Text

from pusher.terminal.text import Line, Table, Tone, printable

_STYLES = {Tone.GOOD: "green", Tone.BAD: "bold red", Tone.WARNING: "yellow", Tone.QUIET: "dim"}
_WORDS = {
    **dict.fromkeys(("live", "done", "yes", "current", "good"), Tone.GOOD),
    **dict.fromkeys(("failed", "stuck", "revoked", "refused", "FAILED"), Tone.BAD),
    **dict.fromkeys(("running", "withdrawn", "undone", "silent"), Tone.WARNING),
    "-": Tone.QUIET,
}
"""Cells of tables that have a meaning, by their first word."""


class Drawing:
    """One terminal. `write` takes all that is to be written, and says if it cannot be."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._console = _Console(
            file=_Stream(write), force_terminal=True, markup=False, emoji=False, highlight=False
        )
        self._live: Live | None = None

    def draw(self, above: Sequence[Line | Table], passing: Sequence[str]) -> None:
        """Print what stays, and below it the passing lines, which replace the last ones.

        As many passing lines as fit, each cut to the width.
        """
        fitting = passing[: max(1, self._console.height - 2)]
        rows = Group(*(Text(row, no_wrap=True, overflow="ellipsis") for row in fitting))
        with self._console:  # one write for all of it: an empty line in between would flicker
            for one in above:
                if isinstance(one, Table):
                    width = self._console.width
                    self._console.print(_columns(one.fitting(width), width))
                else:
                    self._console.print(_text(one), soft_wrap=True)
            if self._live is not None:
                self._live.update(rows, refresh=True)
            elif passing:
                self._live = Live(
                    rows,
                    console=self._console,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._live.start(refresh=True)
            if self._live is not None and not passing:
                self._live.stop()
                self._live = None


class _Console(Console):
    """A console that leaves the cursor alone: a command that is killed must not leave a terminal without one."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class _Stream(io.StringIO):
    """Where a console writes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def write(self, text: str, /) -> int:
        self._write(text)
        return len(text)


def _text(line: Line) -> Text:
    return Text(line.text, style=_STYLES.get(line.tone, ""))


def _columns(table: Table, width: int) -> Columns:
    found = Columns(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for title, whole in zip(table.head, table.unbroken(width), strict=True):
        found.add_column(Text(printable(title)), overflow="fold", no_wrap=whole)
    for row in table.rows:
        found.add_row(*(_cell(printable(cell).replace("\n", " ")) for cell in row))
    return found


def _cell(text: str) -> Text:
    tone = _WORDS.get(text.split(",")[0].split(" ")[0])
    return Text(text, style=_STYLES[tone] if tone else "")
