"""How much room is left where something lies, before anybody needs it.

Invariant: this only asks. Blocking.
"""

import os
from pathlib import Path

_LEAST_BYTES = 32 * 1024 * 1024
_LEAST_FILES = 1_000
"""What a deployment keeps free is half of the first, and a venv with a web framework has about so many files."""


def shortage(path: Path) -> str:
    """Why hardly anything can be written at a path, for people; empty if it can. Raises: OSError."""
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    if found.f_flag & os.ST_RDONLY:
        return f"{path} is mounted read-only, so nothing can be deployed: the kernel's log may say why"
    if free < _LEAST_BYTES:
        return (
            f"{path} has {free:,} bytes left, and a deployment needs more: make room there, or lower keep_releases"
        )
    # Some filesystems do not count them.
    if found.f_files and found.f_favail < _LEAST_FILES:
        return f"{path} has {found.f_favail:,} inodes left, and a deployment needs more: remove small files there"
    return ""
