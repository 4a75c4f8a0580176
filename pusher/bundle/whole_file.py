"""A bundle's file: it appears whole or not at all."""

import os
from collections.abc import Iterable
from pathlib import Path

from pusher.errors import Usage


def write_whole(target: Path, pieces: Iterable[bytes]) -> None:
    """Write a file that appears whole or not at all. Raises: Usage; whatever `pieces` raises."""
    # If it is a link, its target is replaced.
    real = Path(os.path.realpath(target))
    aside = real.with_name(f".{real.name}.{os.getpid()}")
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            # For root, the rename would replace even /dev/null.
            raise Usage(f"{target} cannot be written", why="it is not a regular file", hint="Name a file with -o")
        try:
            with aside.open("xb") as out:
                out.writelines(pieces)
                out.flush()
                os.fsync(out.fileno())
            aside.replace(real)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise Usage(f"{target} cannot be written", why=error.strerror or str(error)) from error
