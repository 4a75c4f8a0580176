"""Standard error that may be closed.

Invariant: a log that cannot be written never changes what the agent does.
"""

import sys
from contextlib import suppress


class Stderr:
    """A text stream to standard error; text that cannot be written (a closed pipe, a full disk) is dropped."""

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
    """Write a line to standard error, at once. Never fails."""
    stderr = Stderr()
    stderr.write(f"{text}\n")
    stderr.flush()
