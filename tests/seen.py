"""What a person sees at a terminal of some size: what was written, read by an emulator (pyte)."""

import io

import pyte


class SeenTerminal(io.StringIO):
    """A terminal that understands what is written to it."""

    def __init__(self, *, columns: int = 80, rows: int = 24) -> None:
        super().__init__()
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self._screen)

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        self._stream.feed(text.replace("\n", "\r\n"))
        return super().write(text)

    def seen(self) -> list[str]:
        """Its lines, without what is empty below and to the right of them."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip("\n").split("\n")

    def colours(self, text: str) -> set[str]:
        """The colours in which a text that stands in one line is shown."""
        for row, line in enumerate(self._screen.display):
            if (at := line.find(text)) >= 0:
                return {self._screen.buffer[row][at + column].fg for column in range(len(text))}
        raise AssertionError(f"{text!r} is not in {self.seen()}")
