"""A repository in a folder of this host, or one that is mounted here."""

import asyncio
import hashlib
from pathlib import Path

from agent.host.channel.mirror import Answer, Unreachable, too_long
from agent.host.storage import volatile
from agent.host.storage.partial import Partial

_PIECE = 1024 * 1024


class LocalFolder:
    """The mirror at `file:///folder`."""

    def __init__(self, path: Path) -> None:
        self.address = f"file://{path}"
        self._path = path

    async def read(self, name: str, *, most: int, tag: str = "") -> Answer | None:
        """As in the port."""
        content = await asyncio.to_thread(self._read, name, most)
        found = hashlib.sha256(content).hexdigest()
        return None if found == tag else Answer(content, found)

    async def exists(self, name: str) -> bool:
        """As in the port."""
        return await asyncio.to_thread(self._exists, name)

    async def fetch(self, name: str, into: Partial) -> None:
        """As in the port."""
        await asyncio.to_thread(self._fetch, name, into)

    async def put(self, name: str, content: bytes) -> None:
        """As in the port."""
        await asyncio.to_thread(self._put, name, content)

    async def bell(self, name: str) -> bool:
        """As in the port. A folder has none: it may lie on another machine, whose changes this one is not told."""
        raise Unreachable(f"{self.address} has no bell")

    async def close(self) -> None:
        """As in the port."""

    def _exists(self, name: str) -> bool:
        try:
            (self._path / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._unreachable(name, error) from error
        return True

    def _read(self, name: str, most: int) -> bytes:
        try:
            with (self._path / name).open("rb") as file:
                return file.read(most + 1)
        except OSError as error:
            raise self._unreachable(name, error) from error

    def _fetch(self, name: str, into: Partial) -> None:
        try:
            file = (self._path / name).open("rb")
        except OSError as error:
            raise self._unreachable(name, error) from error
        with file:
            at = into.arrived()
            file.seek(at)
            while True:
                try:
                    piece = file.read(_PIECE)
                except OSError as error:
                    raise self._unreachable(name, error) from error
                if not piece:
                    return
                if at + len(piece) > into.size:
                    raise too_long(f"{self.address}/{name}", into.size)
                into.append(piece, at=at)
                at += len(piece)

    def _put(self, name: str, content: bytes) -> None:
        path = self._path / name
        try:
            volatile.make_folder(path.parent)
            volatile.write(path, content.decode())
        except OSError as error:
            why = error.strerror or str(error)
            raise Unreachable(f"{self.address}/{name} cannot be written", why=why) from error

    def _unreachable(self, name: str, error: OSError) -> Unreachable:
        return Unreachable(f"{self.address}/{name} cannot be read", why=error.strerror or str(error))
