"""Which reports were proved before: to look at a fleet again is to verify only what has changed.

Invariant: a digest stands for every byte of a report and for the key that has signed it, so another report,
another signature or another key is unknown here. The file is the user's own, and is not read if others could write
it. It says of no report that it counts: form, app, channel, host and age are looked at each time.
"""

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

_RULES = b"pusher report 1\n"
"""Goes into each digest. Another number where a signature must meet more than it had to before."""
_SIZE = hashlib.sha256().digest_size
_MOST = 16 * 1024 * 1024


def proof(content: bytes, *, key: bytes) -> bytes:
    """What stands for an object and a key in `Proved`."""
    # The key has one length, so where it ends is no question.
    return hashlib.sha256(_RULES + key + content).digest()


class Proved:
    """The reports that were proved, in `file`; without one, those of this process."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._before = _read(file) if file else frozenset[bytes]()
        self._met: set[bytes] = set()

    def knows(self, proof: bytes) -> bool:
        """Whether `add` was told the same before."""
        if proof in self._before:
            self._met.add(proof)
        return proof in self._met

    def add(self, proof: bytes) -> None:
        """The report that this stands for is signed by the key that it stands for."""
        self._met.add(proof)

    def keep(self) -> None:
        """Remember those that were met since the last time, and no others. Where that cannot be, none are."""
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


def _read(file: Path) -> frozenset[bytes]:
    with suppress(OSError), file.open("rb") as found:
        state = os.fstat(found.fileno())
        if state.st_uid == os.geteuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raw = found.read(_MOST)
            return frozenset(raw[at : at + _SIZE] for at in range(0, len(raw) - _SIZE + 1, _SIZE))
    return frozenset()
