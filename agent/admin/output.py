"""The standard streams of `pusher-agent`. They may be full, closed from the start, or lose their reader.

Invariant: a stream that cannot be written ends no work half way. What it cannot take is dropped. What an app can
put into a message, such as where a link of its own leads, is no command to the terminal.
"""

import io
import locale
import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

from pusher.wire import Code, Failed

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


# C0 without tab and newline, DEL, C1; and what reorders or hides text: bidirectional controls, line and paragraph
# separators.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Output:
    """The standard streams of this process, replaced by streams that never fail."""

    def __init__(self) -> None:
        # A closed stream (`>&-`) would give its number, and what is printed, to the next file that is opened.
        for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, flags)  # gets the lowest free number, which is this one
        self._out, self._error = _Forgiving(1, "w", closefd=False), _Forgiving(2, "w", closefd=False)
        sys.stdout, sys.stderr = _text(self._out, sys.stdout), _text(self._error, sys.stderr)

    def check(self) -> None:
        """Raises: Failed, if standard output was lost. A closed pipe is no loss: the reader has enough."""
        sys.stdout.flush()
        lost = self._out.lost
        if lost is not None and not isinstance(lost, BrokenPipeError):
            raise Failed(
                Code.DISK_ERROR,
                "Standard output cannot be written",
                why=lost.strerror or str(lost),
                hint="The command was carried out. Make room there, or redirect the output",
            )


class _Forgiving(io.FileIO):
    """A file that takes whatever is written. `lost` is why some of it is not there."""

    lost: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.lost = error
            return memoryview(data).nbytes


class _Printable(io.TextIOWrapper):
    """Text in which each control character is written as an escape."""

    def write(self, text: str, /) -> int:
        super().write(_CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text))
        return len(text)


def _text(file: io.FileIO, before: TextIO | None) -> TextIO:
    encoding = locale.getencoding() if sys.flags.utf8_mode or before is None else before.encoding
    # A character that the terminal's encoding lacks must not end a command whose work is done.
    return _Printable(io.BufferedWriter(file), encoding, errors="backslashreplace", line_buffering=True)
