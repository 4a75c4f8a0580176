"""Standard output and standard error. They may be full, closed from the start, or lose their reader.

Invariant: a stream that cannot be written does not end work on a host. Later output to it is discarded.
"""

import os
import sys
from typing import TextIO


def write(out: TextIO, text: str) -> OSError | None:
    """Write `text` and flush; returns the error if that fails."""
    try:
        out.write(text)
        out.flush()
    except OSError as error:
        # The rest of its buffer is flushed again, with the next text or at exit. Without this it would fail again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
        return error
    return None


def write_result(text: str, out: TextIO | None = None) -> None:
    """Write the whole result of a command to `out`, by default standard output. Raises: Unwritten.

    A closed pipe is no error: the reader has enough. Nor is a standard error that cannot be written.
    """
    error = write(out or sys.stdout, text)
    if error is None or isinstance(error, BrokenPipeError) or out is sys.stderr:
        return
    from pusher.errors import Unwritten  # here, so that `pusher --version` does not import it

    raise Unwritten(error)


def replace_closed_streams() -> None:
    """Replace standard streams that were closed (`>&-`).

    Otherwise the next file or connection gets their number, and what others write there. The replacement of
    standard output cannot be written, so that the command reports its output as lost.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
