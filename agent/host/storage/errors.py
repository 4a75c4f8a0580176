"""Errors of the operating system in words: what could not be done to which path, why, and what to do next."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pusher.wire import Code, Failed

_HINTS = {
    errno.ENOSPC: "Make room on that filesystem (`df -h`, `df -i`), or lower keep_releases, and try again",
    errno.EDQUOT: "Raise the quota of the agent's user, or lower keep_releases, and try again",
    errno.EACCES: "Give the agent's user the right to do that there",
    errno.EPERM: "Give the agent's user the right to do that there",
    errno.EROFS: "The filesystem is mounted read-only: the kernel's log may say why",
    errno.EIO: "The disk itself reported the error: see the kernel's log before you try again",
    errno.EXDEV: "Put both on one filesystem",
    errno.EMFILE: "Raise the agent's limit of open files",
}


@contextmanager
def explained(
    verb: str, path: Path | str, folder: int | None = None, *, towards: Path | None = None
) -> Iterator[None]:
    """Turn an OSError into a problem that says "Could not `verb` `path`"; with `folder`, `path` is a name in it.

    Raises: Failed, with disk_full if there is no room or no quota left, else disk_error.
    """
    try:
        yield
    except OSError as error:
        shown = str(path) if folder is None else f"{path_of(folder)}/{path}"
        raise Failed(
            Code.DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else Code.DISK_ERROR,
            f"Could not {verb} {shown}" + (f" to {towards}" if towards else ""),
            why=error.strerror or str(error),
            hint=_HINTS.get(error.errno or 0, ""),
        ) from error


def path_of(descriptor: int) -> str:
    """The present path of an open file or folder, for a message."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return "..."
