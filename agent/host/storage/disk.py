"""Changes of the filesystem that must survive a power cut, one method a kind, each labelled by its operation.

Invariant: what must survive a power cut is changed here, and nowhere else but by SQLite (the journal), by uv (a
venv while it is built, flushed here) and by root's set-up commands, which can be run again. Files that only have
to outlive the agent are changed by `volatile`. A test lists every other place.

`_at(op)` is called before each change with a short stable name, so that a test can fail or stop at exactly one.
A change made of several, such as replacing a link, names the later ones `op.rename`, `op.sync`.

A flush that failed is never tried again: the kernel may have dropped the pages and would then report success
(fsync(2), "ERRORS").
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, Protocol

from agent.host.storage.errors import explained, path_of
from pusher.wire import Code, Failed

FSYNC_FILES_MOST = 1_000
"""Up to this many files are flushed one by one; above, `syncfs` flushes the whole filesystem."""

_SLICE = 1024 * 1024
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # linux/fcntl.h, linux/fs.h
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)


class Libc(Protocol):
    """The C library's calls that Python does not have. They return -1 and set errno if they fail."""

    def renameat2(self, old_folder: int, old: bytes, new_folder: int, new: bytes, flags: int, /) -> int: ...

    def syncfs(self, descriptor: int, /) -> int: ...


class Disk:
    """The real disk. All methods block.

    Where a method takes `folder`, that is an open directory and `name` is one name in it, never a path.
    Raises: Failed(disk_full, disk_error), from every method; it says what could not be done to which path.
    """

    def __init__(self, *, libc: Libc | None = None) -> None:
        self._clones = True
        self._libc = libc or ctypes.CDLL(None, use_errno=True)

    def make_folder(
        self,
        path: Path | str,
        *,
        op: str,
        folder: int | None = None,
        mode: int | None = None,
        most: int = 0o777,
        exist_ok: bool = True,
    ) -> None:
        """Make a folder; its parent must exist. It has exactly `mode`, or what the umask leaves of `most`.

        `exist_ok`: a folder that is there will do, and keeps its mode. Anything else, a link too, will not.
        """
        with explained("make the folder", path, folder):
            self._at(op)
            try:
                os.mkdir(path, most if mode is None else mode, dir_fd=folder)
            except FileExistsError:
                if exist_ok and stat.S_ISDIR(os.lstat(path, dir_fd=folder).st_mode):
                    return
                raise
            if mode is not None:
                os.chmod(path, mode, dir_fd=folder)

    def make_folders(self, path: Path, *, op: str, most: int = 0o777) -> None:
        """Make a folder with all that is missing above it. Each has what the umask leaves of `most`."""
        missing = [path]
        with explained("make the folder", path):
            while not missing[-1].parent.exists():
                missing.append(missing[-1].parent)
        for folder in reversed(missing):
            self.make_folder(folder, most=most, op=op)

    def create(
        self, name: Path | str, chunks: Iterable[bytes], *, op: str, mode: int, folder: int | None = None
    ) -> tuple[int, str]:
        """Make a file, which must not exist, of exactly this mode. Returns size and SHA-256 (hex). Not flushed.

        What `chunks` raises passes through. The unfinished file stays: the caller discards the whole tree.
        """
        digest, size = hashlib.sha256(), 0
        with explained("create", name, folder):
            self._at(op)
            with _opened(name, _NEW_FILE, folder) as descriptor:
                os.fchmod(descriptor, mode)
                for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    _write_all(descriptor, chunk)
        return size, digest.hexdigest()

    def copy(self, name: str, source: int, *, op: str, mode: int, folder: int | None = None) -> tuple[int, str]:
        """Make a file with the content of the open file `source`, read from its start. Returns as `create`.

        It shares blocks where the filesystem can (a reflink, copied on write). It is never a hard link: one edit
        in place would damage both. Raises: Failed(release_damaged) if `source` cannot be read.
        """
        digest, size = hashlib.sha256(), 0
        with explained("create", name, folder):
            self._at(op)
            with _opened(name, _NEW_FILE, folder) as descriptor:
                os.fchmod(descriptor, mode)
                cloned = self._clones = self._clones and _cloned(source, descriptor)
                for chunk in _content(descriptor if cloned else source):
                    digest.update(chunk)
                    size += len(chunk)
                    if not cloned:
                        _write_all(descriptor, chunk)
        return size, digest.hexdigest()

    def write(self, path: Path, content: bytes, *, op: str, mode: int = 0o644, replace: bool = False) -> None:
        """Write a small file; flush it and its name. With `replace`: the old or the new one at any moment."""
        written = path.with_name(f".{path.name}.new") if replace else path
        with explained("write", path):
            self._at(op)
            if replace:
                written.unlink(missing_ok=True)  # left by a write that was cut off
            with _opened(written, _NEW_FILE) as descriptor:
                os.fchmod(descriptor, mode)
                _write_all(descriptor, content)
                self._at(f"{op}.flush")
                os.fsync(descriptor)
            if replace:
                self._at(f"{op}.rename")
                written.replace(path)
        self.sync_folder(path.parent, op=f"{op}.sync")

    def place(self, written: Path, path: Path, *, op: str, mode: int) -> None:
        """Give a finished file its name, and exactly this mode. The old or the new one at any moment; flushed."""
        with explained("place", path):
            self._at(op)
            with _opened(written, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC) as descriptor:
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            self._at(f"{op}.rename")
            written.replace(path)
        self.sync_folder(path.parent, op=f"{op}.sync")

    def link(self, path: Path | str, target: str, *, op: str, folder: int | None = None) -> None:
        """Make a symbolic link, which must not exist. Not flushed."""
        with explained("link", path, folder):
            self._at(op)
            os.symlink(target, path, dir_fd=folder)

    def flip(self, path: Path, target: str, *, op: str) -> None:
        """Point a symbolic link, which may exist, at `target`: the old or the new one at any moment. Flushed."""
        fresh = path.with_name(f".{path.name}.new")
        with explained("point", path):
            self._at(op)
            fresh.unlink(missing_ok=True)  # left by a flip that was cut off
            fresh.symlink_to(target)
            self._at(f"{op}.rename")
            fresh.replace(path)
        self.sync_folder(path.parent, op=f"{op}.sync")

    def rename(self, old: Path, new: Path, *, op: str) -> None:
        """Move within a filesystem; anything already at `new` is an error. Neither folder is flushed."""
        with explained("move", old, towards=new):
            self._at(op)
            if self._libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE):
                number = ctypes.get_errno()
                if number != errno.EINVAL:
                    raise OSError(number, os.strerror(number))
                # A filesystem that does not know the flag: NFS, or ZFS before 2.2. Only this agent makes names
                # here, so checking first is as good.
                if os.path.lexists(new):
                    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
                os.rename(old, new)

    def replace(self, name: str, new: str, *, folder: int, op: str) -> None:
        """Rename within an open folder, replacing a file that is called `new`. Not flushed."""
        with explained("replace", new, folder):
            self._at(op)
            os.replace(name, new, src_dir_fd=folder, dst_dir_fd=folder)

    def sync_folder(self, path: Path, *, op: str) -> None:
        """Flush a folder: the names in it, not what they name."""
        with explained("flush", path), _opened(path, _OPEN_FOLDER) as descriptor:
            self._at(op)
            os.fsync(descriptor)

    def sync_tree(self, path: Path, *, op: str) -> None:
        """Flush everything beneath `path`, and `path` itself; not its name in its parent."""
        with explained("flush", path), _opened(path, _OPEN_FOLDER) as top:
            self._at(op)
            if _count(top) > FSYNC_FILES_MOST:
                if self._libc.syncfs(top):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))
                return
            for _, _, files, folder in os.fwalk(".", topdown=False, onerror=_raise, dir_fd=top):
                for name in files:
                    if stat.S_ISREG(os.lstat(name, dir_fd=folder).st_mode):
                        with _opened(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, folder) as descriptor:
                            os.fsync(descriptor)
                os.fsync(folder)

    def unlink(self, path: Path | str, *, op: str, folder: int | None = None) -> None:
        """Remove a file or link, if it is there. Flushed, unless in an open `folder` (a tree being built)."""
        with explained("remove", path, folder):
            self._at(op)
            try:
                os.unlink(path, dir_fd=folder)
            except FileNotFoundError:
                return
        if folder is None:
            self.sync_folder(Path(path).parent, op=f"{op}.sync")

    def remove(self, path: Path, *, trash: Path, op: str) -> None:
        """Remove a tree: move it to `trash` (same filesystem), flush that, then delete it.

        So nothing half deleted is ever found under its own name. Idempotent: it also finishes what an earlier call
        left in `trash`.
        """
        self.discard(trash, op=f"{op}.discard")
        if os.path.lexists(path):
            self.rename(path, trash, op=op)
            for folder in {path.parent, trash.parent}:
                self.sync_folder(folder, op=f"{op}.sync")
            self.discard(trash, op=f"{op}.discard")

    def discard(self, trash: Path, *, op: str) -> None:
        """Delete what is at `trash`, if anything; links are deleted, never followed."""
        with explained("delete", trash), suppress(FileNotFoundError):
            self._at(op)
            if stat.S_ISDIR(os.lstat(trash).st_mode):
                shutil.rmtree(trash)  # by descriptors all the way down, on Linux
            else:
                os.unlink(trash)

    def _at(self, op: str) -> None:
        """Called before each change, in the thread that makes it: where a test stops, or raises an OSError."""


@contextmanager
def _opened(path: Path | str, flags: int, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o600, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    written = os.write(descriptor, content)
    while written < len(content):
        written += os.write(descriptor, memoryview(content)[written:])


def _content(source: int) -> Iterator[bytes]:
    """An open file from its start, in slices. By `pread`: the position of a descriptor may be shared."""
    at = 0
    try:
        # A buffer of a whole slice for each small file costs more than copying the file. A read that returns
        # less than it asked for has met the end.
        asked = min(os.fstat(source).st_size + 1, _SLICE)
        while chunk := os.pread(source, asked, at):
            yield chunk
            if len(chunk) < asked:
                break
            at += len(chunk)
    except OSError as error:
        raise Failed(Code.RELEASE_DAMAGED, f"Could not read {path_of(source)}", why=str(error)) from error


def _cloned(source: int, descriptor: int) -> bool:
    """Whether the filesystem could share the blocks of `source` (ioctl_ficlonerange(2))."""
    try:
        fcntl.ioctl(descriptor, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        return False
    return True


def _count(folder: int) -> int:
    """How many files lie beneath an open folder; counting stops above FSYNC_FILES_MOST."""
    count = 0
    for _, _, files, _ in os.fwalk(".", onerror=_raise, dir_fd=folder):
        count += len(files)
        if count > FSYNC_FILES_MOST:
            break
    return count


def _raise(error: OSError) -> NoReturn:
    """For `os.fwalk`, which would otherwise skip folders that it cannot open."""
    raise error
