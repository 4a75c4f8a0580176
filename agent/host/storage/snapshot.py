"""The journal as another process reads it: a copy, so that nothing beside the agent's file is made or changed.

Invariant: what is copied is of one moment. The agent may write meanwhile; then it is copied once more. The copy is
read as of unknown origin: an attacker with the agent's user could have put anything there.
"""

import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.host.storage import history
from pusher.wire import Head

_ATTEMPTS = 20
_SLICE = 1024 * 1024


class Snapshot:
    """A copy of the journal. Everything here blocks. Raises: OSError, if it is no journal of ours."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def schema(self) -> int:
        """The version of its tables: that of the newest agent which has opened it."""
        (version,) = self._db.execute("pragma user_version").fetchone()
        return int(version)

    def apps(self) -> list[str]:
        """The apps that the journal knows. None before an agent that keeps histories has opened it."""
        (kept,) = self._db.execute("select count(*) from sqlite_master where name = 'history'").fetchone()
        return history.apps(self._db) if kept else []

    def head(self, app: str) -> Head:
        """The head of an app's history."""
        return history.head(self._db, app)

    def audit(self, app: str) -> str:
        """The first sign that an app's history or its events were changed; empty if there is none."""
        return history.audit(self._db, app, events=True)

    def contains(self, app: str, head: Head) -> bool:
        """Whether the app's history once had this head."""
        row = self._db.execute(
            "select hash from history where app = ? and record = ?", (app, head.records)
        ).fetchone()
        return row is not None and row["hash"] == head.hash


@contextmanager
def snapshot(journal: Path) -> Iterator[Snapshot]:
    """A copy of the journal at this path. Blocking. Raises: OSError, also if it is no journal of ours."""
    with tempfile.TemporaryDirectory(prefix="pusher-agent-") as folder:
        copy = Path(folder, "journal.sqlite")
        for _ in range(_ATTEMPTS):
            before = _stamps(journal)
            _copy(journal, copy)
            with suppress(FileNotFoundError):
                _copy(_log_of(journal), _log_of(copy))
            if _stamps(journal) == before:
                break
        else:
            raise OSError(f"{journal} changes all the while")
        db = sqlite3.connect(copy)
        try:
            db.row_factory = sqlite3.Row
            db.execute("pragma trusted_schema = off")
            yield Snapshot(db)
        except sqlite3.Error as error:
            raise OSError(str(error)) from error
        finally:
            db.close()


def _log_of(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}-wal")


def _stamps(journal: Path) -> list[tuple[int, int, int]]:
    found = []
    for path in (journal, _log_of(journal)):
        with suppress(FileNotFoundError):
            state = path.lstat()
            found.append((state.st_ino, state.st_size, state.st_mtime_ns))
    return found


def _copy(source: Path, to: Path) -> None:
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file, to.open("wb") as out:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{source} is no file")
        while piece := file.read(_SLICE):
            out.write(piece)
