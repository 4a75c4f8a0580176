"""The folders of a tree that is being built, opened one name at a time and never through a link."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.host.storage.errors import explained

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_MOST = 64


class Folders:
    """Descriptors of the folders beneath `top`, kept open while they are likely to be needed again.

    Not thread-safe. Blocking. Raises: Failed(disk_error), also for a folder that is a link.
    """

    def __init__(self, top: Path) -> None:
        with explained("open the folder", top):
            self._top = os.open(top, _FLAGS)
        self._open: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        os.close(self._top)

    def of(self, path: str) -> tuple[int, str]:
        """The open folder that a relative path lies in, and its name there. Valid until the next call."""
        if len(self._open) > _OPEN_MOST:
            self._close()
        folder, _, name = path.rpartition("/")
        return self._descriptor(folder), name

    def _descriptor(self, path: str) -> int:
        if not path:
            return self._top
        found = self._open.get(path)
        if found is None:
            above, _, name = path.rpartition("/")
            parent = self._descriptor(above)
            with explained("open the folder", name, parent):
                found = self._open[path] = os.open(name, _FLAGS, dir_fd=parent)
        return found

    def _close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
