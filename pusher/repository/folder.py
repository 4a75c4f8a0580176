"""A repository in a folder, which any web server can serve.

Invariant: a reader sees an old object or a new one, whole, also after a power cut. Publishers on several machines
lock each other out by flock(2), on NFS too.
"""

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pusher.errors import Unreachable, Usage
from pusher.repository.store import Found, Item, changed_meanwhile, missing, too_large
from pusher.repository.unfinished import is_cut_off, writer_of

_PIECE = 256 * 1024
_AWAY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN}
"""What a network filesystem says whose server does not answer."""


class Folder:
    """The repository in a folder. It is made by the first `put` or `replace`; its parent must exist."""

    def __init__(self, path: Path) -> None:
        # Absolute, for what is remembered of it: another project may have a folder of the same name.
        self._path = path if path.is_absolute() else Path(os.path.abspath(path))
        self.address = str(self._path)

    def read(self, name: str, *, most: int) -> Found | None:
        """As in the port."""
        try:
            content = _read(f"{self._path}/{name}", most + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._cannot("read", name, error) from error
        if len(content) > most:
            raise too_large(name, most)
        return Found(content, _tag(content))

    @contextmanager
    def stream(self, name: str) -> Iterator[Iterator[bytes]]:
        """As in the port."""
        try:
            file = (self._path / name).open("rb")
        except FileNotFoundError:
            raise missing(name) from None
        except OSError as error:
            raise self._cannot("read", name, error) from error
        with file:
            yield iter(lambda: file.read(_PIECE), b"")

    def put(self, name: str, file: Path) -> bool:
        """As in the port."""
        target = self._path / name
        if target.exists():
            return False
        with file.open("rb") as source:
            self._write(name, iter(lambda: source.read(_PIECE), b""))
        return True

    def replace(self, name: str, content: bytes, *, tag: str | None) -> None:
        """As in the port."""
        with self._locked(name):
            found = self.read(name, most=max(len(content), 1) + 16 * 1024 * 1024)
            if (found.tag if found else None) != tag:
                raise changed_meanwhile(name)
            self._write(name, [content])

    def remove(self, name: str) -> None:
        """As in the port."""
        try:
            (self._path / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._cannot("remove", name, error) from error

    def names(self, prefix: str) -> list[Item]:
        """As in the port. Hidden files are none of ours, or are being written. A link leads to what is meant."""

        def failed(error: OSError) -> None:
            # What cannot be looked into is not empty: somebody may remove what seems to be named nowhere.
            if not isinstance(error, FileNotFoundError):
                raise self._cannot("list", prefix, error) from error

        found = []
        top = self._path / prefix
        for folder, folders, files in os.walk(
            top if top.is_dir() else top.parent, onerror=failed, followlinks=True
        ):
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            for one in files:
                path = Path(folder, one)
                name = path.relative_to(self._path).as_posix()
                if not one.startswith(".") and name.startswith(prefix):
                    try:
                        state = path.stat()
                    except OSError as error:
                        failed(error)
                        continue
                    if stat.S_ISREG(state.st_mode):
                        found.append(Item(name, state.st_size, state.st_mtime))
        return sorted(found)

    def unfinished(self) -> list[Item]:
        """As in the port. What a living process of this machine may still write is none."""
        found = []
        for folder, _, files in os.walk(self._path):
            for one in files:
                path = Path(folder, one)
                name = path.relative_to(self._path).as_posix()
                if is_cut_off(name) and not _lives(writer_of(name)):
                    with suppress(FileNotFoundError):
                        state = path.lstat()
                        found.append(Item(name, state.st_size, state.st_mtime))
        return sorted(found)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        target = self._path / name
        try:
            self._make_parents(target)
            descriptor = os.open(
                # As the folder beside it: publishers of one group share it.
                target.with_name(f".{target.name}.lock"),
                os.O_RDWR | os.O_CREAT | os.O_CLOEXEC,
                0o666,
            )
        except OSError as error:
            raise self._cannot("lock", name, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, name: str, pieces: Iterable[bytes]) -> None:
        target = self._path / name
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            self._make_parents(target)
            try:
                with aside.open("wb") as out:
                    out.writelines(pieces)
                    out.flush()
                    os.fsync(out.fileno())
                aside.replace(target)
            finally:
                aside.unlink(missing_ok=True)
            _sync(target.parent)
        except OSError as error:
            raise self._cannot("write", name, error) from error

    def _make_parents(self, target: Path) -> None:
        self._path.mkdir(exist_ok=True)  # not its parents: a wrong path is not made
        target.parent.mkdir(parents=True, exist_ok=True)

    def _cannot(self, verb: str, name: str, error: OSError) -> Usage | Unreachable:
        what, why = f"Could not {verb} {name} in the repository {self._path}", error.strerror or str(error)
        return Unreachable(what, why=why) if error.errno in _AWAY else Usage(what, why=why)


def _lives(process: int) -> bool:
    """Whether there is such a process. Without a number it is not known, and nobody waits for it."""
    try:
        if process:
            os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return bool(process)


def _read(path: str, most: int) -> bytes:
    """At most so many bytes of a file. Not by pathlib: it reads half as many reports of a fleet in a second."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, most)
        while len(content) < most and (more := os.read(descriptor, most - len(content))):
            content += more
        return content
    finally:
        os.close(descriptor)


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sync(folder: Path) -> None:
    """Flush the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
