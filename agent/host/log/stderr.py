"""Standard error that may be gone: a log that cannot be written must never change what is logged about."""

import sys
from contextlib import suppress


class Stderr:
    """Writes what it is given; what cannot be written (a closed pipe, a full disk) is dropped."""

    def write(self, text: str, /) -> int:
        """As `TextIO.write`, but never fails."""
        with suppress(OSError, ValueError):
            return sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """As `TextIO.flush`, but never fails."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def write_line(text: str) -> None:
    """A line on standard error, at once, if it can be."""
    stderr = Stderr()
    stderr.write(f"{text}\n")
    stderr.flush()
