"""An SQLite file: durable at every return.

Invariant: a change that returned has been flushed to disk (WAL, `synchronous=FULL`); one that raised has
changed nothing. One thread owns the connection, so the event loop never waits for a disk.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pusher.wire import Code, Failed

_Result = TypeVar("_Result")


class Database:
    """The file of the agent's journal. Each SQL of `schemas` makes the tables of one version from the one before.

    Raises: Failed(disk_full, disk_error), from every coroutine.
    """

    def __init__(self, path: Path, *, schemas: Sequence[str]) -> None:
        self._path = path
        self._schemas = schemas
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file, or make it. Raises: also Failed(configuration), if a newer agent wrote it."""
        await self._run(self._open)

    async def close(self) -> None:
        """Close the file. A later call raises RuntimeError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)  # it has nothing left to do, and waiting would block the loop

    async def read(self, query: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        """The rows of a query."""
        return await self._run(lambda: self._db().execute(query, values).fetchall())

    async def inspect(self, ask: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """What several queries find, all of the same moment."""

        def ask_once() -> _Result:
            db = self._db()
            db.execute("begin")
            try:
                return ask(db)
            finally:
                db.rollback()

        return await self._run(ask_once)

    async def write(self, change: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Make a change in one transaction. Returns what `change` returns."""

        def transact() -> _Result:
            with self._db() as db:
                return change(db)

        return await self._run(transact)

    async def _run(self, call: Callable[[], _Result]) -> _Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except sqlite3.DatabaseError as error:
            full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
            hint = "Make room on that filesystem" if full else "Check that filesystem and its permissions"
            if error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                hint = "Move it away. Without a journal the agent knows the live release, and the others by name"
            raise Failed(
                Code.DISK_FULL if full else Code.DISK_ERROR,
                f"The journal {self._path} could not be used",
                why=str(error),
                hint=hint,
            ) from error

    def _open(self) -> None:
        # Only the agent may read it: hooks may print secrets.
        with contextlib.suppress(OSError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self._path, isolation_level="IMMEDIATE", check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = full")
        (version,) = db.execute("pragma user_version").fetchone()
        if version > len(self._schemas):
            db.close()
            raise Failed(
                Code.CONFIGURATION,
                f"The journal {self._path} was written by a newer agent",
                why=f"its schema is {version}; this agent knows {len(self._schemas)}",
                hint="Install that version again",
            )
        if missing := "".join(self._schemas[version:]):
            db.executescript(f"begin immediate;{missing}pragma user_version = {len(self._schemas)}; commit;")
        self._connection = db

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError("the journal is not open")
        return self._connection
