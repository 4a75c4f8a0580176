"""Folders that are watched for changes, by `watchfiles` (inotify(7) underneath).

Invariant: a change is a hint and nothing more. It makes the agent scan, and the scan decides by content. The path
in an event serves one purpose: to ignore names that cannot matter.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping

# Not `awatch`, which is made of the same parts: it takes one of the 40 threads that anyio has for everything, it
# does not say from which moment on it watches, and it logs every change.
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

STEP_S = 0.25
"""How often `watchfiles` asks for changes. They are reported when none was added for one step."""
_DEBOUNCE_MS = 1_000
"""Changes are reported after this time even if more are added all the time."""
_TIMEOUT_MS = 600_000
"""A change is assumed after this time: when the kernel's queue was full and lost events, nobody is told."""

Ignores = Callable[[str], bool]
"""Whether a name in a folder cannot matter."""


class Watch:
    """Watches open folders, given by their descriptors, from now on until it is closed. Making one blocks.

    Descriptors, because a path may lead elsewhere a moment later. Not the folders inside them: for these
    `watchfiles` follows links, also out of the drop directory, and stops the whole agent while it walks.

    Raises: OSError, also when the kernel gives this user no more watches.
    """

    def __init__(self, folders: Mapping[int, Ignores | None], *, step_s: float = STEP_S) -> None:
        self._step_ms = int(step_s * 1000)
        self._ignores = {f"/proc/self/fd/{folder}": ignores for folder, ignores in folders.items()}
        self._closed = threading.Event()
        self._open: list[int] = []
        try:
            # Kept open, so that no later folder gets the inode number of one of these, and is taken for it.
            self._open += (os.dup(folder) for folder in folders)
            self._identities = _identities(self._open)
            self._notify = RustNotify(list(self._ignores), False, False, 0, False, False)
        except (OSError, WatchfilesRustInternalError) as error:
            self._let_go()
            raise OSError(str(error)) from error

    def covers(self, folders: Iterable[int]) -> bool:
        """Whether it watches exactly these folders."""
        return _identities(folders) == self._identities

    def wait(self) -> bool:
        """Block until something may have changed, or until it is closed: then false.

        Raises: OSError, if this watch is broken (a file name that is not UTF-8 does it): make another one.
        """
        while True:
            try:
                news = self._notify.watch(_DEBOUNCE_MS, self._step_ms, _TIMEOUT_MS, self._closed)
            except RuntimeError as error:  # a WatchfilesRustInternalError, or a closed one
                if self._closed.is_set():
                    return False
                raise OSError(str(error)) from error
            if self._closed.is_set():
                return False
            if isinstance(news, str) or any(self._matters(path) for _, path in news):
                return True

    def close(self) -> None:
        """End `wait`, within a step, and give the kernel its watch back. Idempotent."""
        self._closed.set()
        # Not left to the end of this object: an error of it keeps it, and the kernel gives a user 128 of them.
        self._notify.close()
        self._let_go()

    def _let_go(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def _matters(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        ignores = self._ignores.get(folder)
        return ignores is None or not ignores(name)


def _identities(folders: Iterable[int]) -> set[tuple[int, int]]:
    return {(state.st_dev, state.st_ino) for state in map(os.fstat, folders)}
