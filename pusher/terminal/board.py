"""What people see while several hosts are busy: a line a host that changes in place, above it what stays.

Invariant: every line tells whose it is, and is written whole. In a pipe nothing changes in place: there every
step that is done is a line.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from pusher.terminal.show import Screen, duration, printable


class Board:
    """The lines of several hosts on one screen. If they are to be `kept`, none stays before `tell`."""

    def __init__(self, screen: Screen, names: Sequence[str], *, kept: bool = False) -> None:
        self._screen = screen
        self._kept: dict[str, list[str]] | None = {name: [] for name in names} if kept else None
        self._width = max(map(len, map(printable, names)))
        self._now = dict.fromkeys(names, "")
        self._waiting = set(names)
        self._lock = threading.Lock()

    def of(self, name: str) -> Screen:
        """The screen of one host. Its turn begins with its first line, and ends when it is settled."""
        return _HostScreen(self, self._screen, name, self._width)

    def tell(self) -> None:
        """Write what was kept, host by host."""
        for lines in (self._kept or {}).values():
            self._screen.draw("".join(lines))

    def show(self, name: str, text: str, now: str | None) -> None:
        """Write `text`, lines that stay; then `now` is what the host does (None: as before, empty: nothing)."""
        with self._lock:
            self._waiting.discard(name)
            if now is not None:
                self._now[name] = now
            if self._kept is not None:
                self._kept[name].append(text)
                text = ""
            rows = [row for row in self._now.values() if row]
            if self._waiting:
                rows.append(f"({len(self._waiting)} not begun)")
            self._screen.draw(text, rows)


class _HostScreen(Screen):
    """Looks like a screen to whoever works for one host."""

    def __init__(self, board: Board, screen: Screen, name: str, width: int) -> None:
        super().__init__(screen._out)
        self._board = board
        self._screen = screen
        self._name = name
        self._prefix = f"{printable(name):<{width}}  "
        self._lost = screen._lost

    def draw(self, text: str, passing: Sequence[str] = ()) -> None:
        self._board.show(self._name, text, passing[0] if passing else None)

    def settle(self) -> None:
        self._board.show(self._name, "", "")

    def _done(self, name: str, data: Mapping[str, Any]) -> None:
        if self.live:
            # The hosts' lines show what they do; what each has done would drive everything else away.
            self.passing(f"  {name}  {duration(data.get('ms'))}")
        else:
            super()._done(name, data)
