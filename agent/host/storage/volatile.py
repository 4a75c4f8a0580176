"""Files that only have to outlive the agent, not a power cut: sockets, links and notes about this boot.

Invariant: nothing here is flushed, and a reader sees the old content or the new one, never a part. What must
survive a power cut goes through `Disk` or the journal instead. All functions block. Raises: OSError, from each.
"""

import os
from pathlib import Path

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def make_folder(path: Path) -> None:
    """A folder with all that is missing above it; one that is there already will do."""
    path.mkdir(parents=True, exist_ok=True)


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """A file with exactly this mode, replacing one that is there."""
    fresh = _fresh(path)
    with os.fdopen(os.open(fresh, _NEW_FILE, 0o600), "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
    fresh.replace(path)


def point(link: Path, target: str) -> None:
    """A symbolic link to `target`, replacing one that is there."""
    fresh = _fresh(link)
    fresh.symlink_to(target)
    fresh.replace(link)


def make_fifo(path: Path, *, mode: int) -> None:
    """A FIFO with exactly this mode, replacing one that is there (fifo(7))."""
    remove(path)
    os.mkfifo(path, 0o600)
    path.chmod(mode)


def remove(path: Path) -> None:
    """Remove a file, link or socket, if it is there."""
    path.unlink(missing_ok=True)


def _fresh(path: Path) -> Path:
    """A name beside `path` that is free: one left by a write that was cut off is removed."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    return fresh
