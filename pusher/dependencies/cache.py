"""What was worked out before, in the user's cache: locks and wheels, by the digest of what they were made from.

Invariant: an entry is whole, or not there. Deleting the folder costs time and nothing else
(https://specifications.freedesktop.org/basedir-spec/).
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from pusher.errors import Usage

_FORMAT = 1
"""A higher number makes every entry anew."""


def cache_folder() -> Path:
    """The folder of the entries."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "pusher"


def digest_of(*inputs: object) -> str:
    """The name of an entry, from everything that decides about it."""
    return hashlib.sha256(json.dumps([_FORMAT, *inputs], sort_keys=True, default=str).encode()).hexdigest()[:32]


def entry(key: str, make: Callable[[Path], None], *, anew: bool = False) -> Path:
    """The folder of an entry; `make` fills an empty one, if there is none or it is wanted anew.

    Raises: Usage, where the cache cannot be written.
    """
    folder = cache_folder()
    final = folder / key
    if final.is_dir() and not anew:
        return final
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder, prefix=f".{key}-"))
    except OSError as error:  # a user without a home, as in a container
        hint = "Set XDG_CACHE_HOME to a folder that can be written"
        raise Usage(
            f"The cache {folder} cannot be written", why=error.strerror or str(error), hint=hint
        ) from error
    try:
        make(work)
        if final.is_dir():
            final.rename(work.with_suffix(".old"))
            shutil.rmtree(work.with_suffix(".old"), ignore_errors=True)
        with contextlib.suppress(OSError):  # by another run at the same time: theirs is as good
            work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final


def write(file: Path, content: bytes) -> None:
    """Write a file of an entry."""
    file.write_bytes(content)
