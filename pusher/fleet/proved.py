"""Which reports were proved before: to look at a fleet again is to verify only what has changed.

Invariant: a digest stands for every byte of a report and for the key that has signed it, so another report,
another signature or another key is unknown here. The file is the user's own, and is not read if others could write
it. It says of no report that it counts: app, channel, host and age are looked at each time.
"""

import hashlib
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

_RULES = b"pusher report 1\n"
"""Goes into each digest. Another number where a report must meet more than it had to before."""
_SIZE = hashlib.sha256().digest_size
_MOST = 16 * 1024 * 1024


class Proved:
    """The reports that were proved, in `file`; without one, those of this process. Any thread may ask and add."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._before = _read(file) if file else frozenset[bytes]()
        self._met: set[bytes] = set()
        self._lock = threading.Lock()

    def knows(self, content: bytes, *, key: bytes) -> bool:
        """Whether `add` was told the same before."""
        found = _digest(content, key)
        if found in self._before:
            with self._lock:
                self._met.add(found)
            return True
        return False

    def add(self, content: bytes, *, key: bytes) -> None:
        """The report in these bytes is well formed, and signed by this key."""
        found = _digest(content, key)
        with self._lock:
            self._met.add(found)

    def keep(self) -> None:
        """Remember those that were met since the last time, and no others. Where that cannot be, none are."""
        with self._lock:
            met, self._met = frozenset(self._met), set()
        if met == self._before:
            return
        self._before = met
        if self._file is not None:
            with suppress(OSError):
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                aside = self._file.with_name(f".{self._file.name}.{os.getpid()}")
                aside.unlink(missing_ok=True)
                with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                    out.write(b"".join(sorted(met)))
                aside.replace(self._file)


def _digest(content: bytes, key: bytes) -> bytes:
    # The key has one length, so where it ends is no question.
    return hashlib.sha256(_RULES + key + content).digest()


def _read(file: Path) -> frozenset[bytes]:
    with suppress(OSError), file.open("rb") as found:
        state = os.fstat(found.fileno())
        if state.st_uid == os.geteuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raw = found.read(_MOST)
            return frozenset(raw[at : at + _SIZE] for at in range(0, len(raw) - _SIZE + 1, _SIZE))
    return frozenset()
