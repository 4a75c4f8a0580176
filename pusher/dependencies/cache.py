"""What was worked out before, in the user's cache: locks and wheels, by the digest of what they were made from.

Invariant: an entry is whole, or not there. Deleting the folder, or files in it, costs time and nothing else.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from pusher.errors import Usage
from pusher.user_folder import user_folder

_FORMAT = 1
"""A higher number makes every entry anew."""


def cache_folder() -> Path:
    """The folder of the entries."""
    return user_folder("XDG_CACHE_HOME", ".cache")


def digest_of(*inputs: object) -> str:
    """The name of an entry, from everything that decides about it."""
    return hashlib.sha256(json.dumps([_FORMAT, *inputs], sort_keys=True, default=str).encode()).hexdigest()[:32]


def entry(key: str, make: Callable[[Path], None], *, anew: bool = False) -> Path:
    """The folder of an entry; `make` fills an empty one, if there is none or it is wanted anew.

    Raises: Usage, where the cache cannot be written.
    """
    folder = cache_folder()
    final = folder / key
    if not anew and _is_whole(final):
        return final
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(dir=folder, prefix=f".{key}-", ignore_cleanup_errors=True)
    except OSError as error:  # a user without a home, as in a container
        hint = "Set XDG_CACHE_HOME to a folder that can be written"
        raise Usage(
            f"The cache {folder} cannot be written", why=error.strerror or str(error), hint=hint
        ) from error
    with made as aside:
        (work := Path(aside, "new")).mkdir(0o700)
        make(work)
        _sync(work)
        with contextlib.suppress(OSError):  # there is none, or another run has just done it
            final.rename(Path(aside, "old"))
        with contextlib.suppress(OSError):  # by another run at the same time: theirs is as good
            work.rename(final)
    return final


def write(file: Path, content: bytes) -> None:
    """Write a file of an entry."""
    file.write_bytes(content)


def _is_whole(folder: Path) -> bool:
    """Whether an entry has its files: who cleans a cache by the age of files leaves an empty folder."""
    return folder.is_dir() and any(folder.iterdir())


def _sync(folder: Path) -> None:
    """Bring an entry to the disk, with its names. Renamed before, it may lack some after a power cut."""
    for place in (*folder.iterdir(), folder):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
