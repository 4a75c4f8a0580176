"""Being woken when something changes in a folder, by inotify(7).

Invariant: an event is a hint and nothing more: who is woken looks for himself. Nothing runs between two events.

Not by `watchfiles`, which wakes 20 times a second to see whether there is news (docs/adr/0012-drop-directory.md).
"""

import ctypes
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

_LIBC = ctypes.CDLL(None, use_errno=True)
_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC  # IN_NONBLOCK and IN_CLOEXEC are these (linux/inotify.h)
_ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x04, 0x08, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_OVERFLOW, _IGNORED, _ONLYDIR = 0x4000, 0x8000, 0x1000000
# Not IN_MODIFY: whoever writes a gigabyte would wake us at each of its writes, and has to close it in the end.
_MASK = _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
Names = frozenset[str] | None
"""Which names in a folder matter; None for all."""

_EVENT = struct.Struct("iIII")
_READ = 64 * 1024


class Watches:
    """The folders that somebody wants to hear about. `descriptor` is readable when there are events.

    Raises: OSError, also ENOSPC and EMFILE when this user has as many as the kernel lets him have.
    """

    def __init__(self) -> None:
        self.descriptor = _checked(_LIBC.inotify_init1(_NONBLOCK | _CLOEXEC))
        self._watched: dict[int, Names] = {}
        self._ended: list[int] = []

    def close(self) -> None:
        """Hear of nothing any more."""
        os.close(self.descriptor)

    def only(self, folders: Iterable[tuple[int, Names]]) -> bool:
        """Watch these open folders for these names and for what becomes of themselves, and nothing else.

        Whether some of it is new: what happened to that before this call was heard of by nobody. Raises: OSError.
        """
        ended, self._ended = self._ended, []
        before = {watch: names for watch, names in self._watched.items() if watch not in ended}
        wanted: dict[int, Names] = {}
        for folder, names in folders:
            watch = self._watch(folder)
            also = wanted.get(watch, frozenset())
            wanted[watch] = None if names is None or also is None else also | names
        self._watched = wanted
        for gone in before.keys() - wanted.keys():
            _LIBC.inotify_rm_watch(self.descriptor, gone)  # it may have gone by itself, with its folder
        return any(watch not in before or before[watch] != names for watch, names in wanted.items())

    def heard(self, *, passing: Callable[[str], bool]) -> bool:
        """Take in the events there are. Whether one of them is about what is watched; where that is every name,
        those that are `passing` do not count."""
        news = False
        with suppress(BlockingIOError):
            while raw := os.read(self.descriptor, _READ):
                for watch, mask, name in _events(raw):
                    if mask & _IGNORED:
                        self._ended.append(watch)  # `only` may be at work in another thread
                    elif not name or mask & _OVERFLOW:
                        news = True
                    else:
                        names = self._watched.get(watch, frozenset())
                        news = news or (not passing(name) if names is None else name in names)
        return news

    def _watch(self, folder: int) -> int:
        # By descriptor, for a name could be another folder's, or a link, by now.
        path = f"/proc/self/fd/{folder}".encode()
        return _checked(_LIBC.inotify_add_watch(self.descriptor, path, _MASK))


def _events(raw: bytes) -> Iterator[tuple[int, int, str]]:
    """Watch, mask and name of each event; the name is empty if the event is about the folder itself."""
    at = 0
    while at < len(raw):
        watch, mask, _, size = _EVENT.unpack_from(raw, at)
        name = raw[at + _EVENT.size : at + _EVENT.size + size].rstrip(b"\0")
        yield watch, mask, os.fsdecode(name)
        at += _EVENT.size + size


def _checked(returned: int) -> int:
    if returned < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return returned
