"""One agent per root: a lock that dies with its holder.

`flock(2)` and not a file with a process id: after a crash nothing has to be cleaned up or believed.
"""

import fcntl
import os
from pathlib import Path

from agent.host.storage.errors import explained
from pusher.wire import Code, Refused


class Lock:
    """Held from `acquire` to `release`, or to the end of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1

    def acquire(self) -> None:
        """Take the lock; never wait. Raises: Refused(busy), naming the process that has it; Failed(disk_error)."""
        with explained("open", self._path):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise Refused(
                Code.BUSY,
                f"Another agent (process {holder}) serves this root",
                why=f"it holds {self._path}",
                hint="Stop that agent first, or use another --root",
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._file = file

    def release(self) -> None:
        """Give the lock up. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
