"""Standard output and standard error, which may be full, closed from the start, or left by their reader.

Invariant: what cannot be written ends no work that goes on elsewhere. It is noted, and what comes after it goes
nowhere.
"""

import os
import sys
from typing import TextIO


def pour(out: TextIO, text: str) -> OSError | None:
    """Write all of it now; the reason if that cannot be."""
    try:
        out.write(text)
        out.flush()
    except OSError as error:
        # What is left in its buffer is flushed once more, with the next text or at exit, and must find something
        # that takes it.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
        return error
    return None


def stand_in() -> None:
    """Put something in the place of standard streams that were closed (`>&-`).

    Else the next file or connection takes their number, and gets what others write there. What stands in for
    standard output cannot be written to, so that whoever asked for an answer is told that it is lost.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # It takes the lowest number that is free, so this one.
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
