"""The output of several hosts at once: a line for each that changes in place, and above them the lines that stay.

Invariant: every line begins with its host's name and is written whole. In a pipe nothing changes in place; there,
every finished step is a line.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from pusher.terminal.screen import Screen
from pusher.terminal.text import Line, Table, duration, printable


class Board:
    """The lines of several hosts on one screen. If `grouped`, no line stays before `print_grouped`."""

    def __init__(self, screen: Screen, names: Sequence[str], *, grouped: bool = False) -> None:
        self._screen = screen
        self._grouped: dict[str, list[Line | Table]] | None = {name: [] for name in names} if grouped else None
        self._width = max(map(len, map(printable, names)))
        self._now = dict.fromkeys(names, "")
        self._waiting = set(names)
        self._lock = threading.Lock()

    def of(self, name: str) -> Screen:
        """The screen of one host. The host counts as begun from its first line on, and as ended once cleared."""
        return _HostScreen(self, self._screen, name, self._width)

    def print_grouped(self) -> None:
        """Print the lines that were collected, host by host."""
        for lines in (self._grouped or {}).values():
            self._screen.draw(lines)

    def show(self, name: str, above: Sequence[Line | Table], now: str | None) -> None:
        """Print `above`, lines that stay. `now` is what the host does (None: as before, empty: nothing)."""
        with self._lock:
            self._waiting.discard(name)
            if now is not None:
                self._now[name] = now
            if self._grouped is not None:
                self._grouped[name].extend(above)
                above = ()
            rows = [row for row in self._now.values() if row]
            if self._waiting:
                rows.append(f"({len(self._waiting)} not begun)")
            self._screen.draw(above, rows)


class _HostScreen(Screen):
    """A screen that is a part of the board."""

    def __init__(self, board: Board, screen: Screen, name: str, width: int) -> None:
        super().__init__(elapsed=screen._elapsed)
        self._output = screen._output
        self._prefix = f"{printable(name):<{width}}  "
        self._board = board
        self._name = name

    def draw(self, above: Sequence[Line | Table], passing: Sequence[str] = ()) -> None:
        self._board.show(self._name, above, passing[0] if passing else None)

    def clear(self) -> None:
        self._board.show(self._name, (), "")

    def _done(self, name: str, data: Mapping[str, Any]) -> None:
        if self.live:
            # The line of the host shows the step. A line for each finished step would scroll everything else away.
            self.passing(f"  {name}  {duration(data.get('ms'))}")
        else:
            super()._done(name, data)
