"""A bundle's file: it appears whole or not at all."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from pusher.errors import Usage


def write_whole(target: Path, pieces: Iterable[bytes]) -> None:
    """Write a file that appears whole or not at all. Raises: Usage; whatever `pieces` raises."""
    # If it is a link, its target is replaced.
    real = Path(os.path.realpath(target))
    # Not after the name of the target: a name may have 255 bytes, and that would be more. Nor after the process:
    # in two containers with one folder, two have the same number.
    aside = real.with_name(f".pusher-{os.urandom(8).hex()}")
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
        hint = _HINTS.get(error.errno or 0, "")
        raise Usage(f"{target} cannot be written", why=error.strerror or str(error), hint=hint) from error


_HINTS = {
    errno.ENOENT: "Make its folder first",
    errno.ENOTDIR: "Make its folder first",
    errno.EISDIR: "Name a file in it",
    errno.ENOSPC: "Make room there, or name a file on another disk",
    errno.EDQUOT: "Make room there, or name a file on another disk",
    errno.EACCES: "Name a file in a folder where you may write",
    errno.EPERM: "Name a file in a folder where you may write",
    errno.EROFS: "Name a file in a folder where you may write",
    errno.ENAMETOOLONG: "Give it a shorter name",
}
