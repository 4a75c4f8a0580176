"""The objects of a repository in a folder, as a server sees them: which there are, and the reports of hosts.

Invariant: a name that is none of a repository's names leads nowhere. A report is written by its own host, as far
as an inventory is named.
"""

import stat
import threading
from pathlib import Path

from agent.host.bundle.signers import verify
from agent.host.storage import volatile
from agent.host.storage.errors import explained
from agent.repository.names import Kind, kind_of
from pusher.wire import Code, Refused, WireError
from pusher.wire.channel import split_signed
from pusher.wire.report import REPORT_BYTES, REPORT_NAMESPACE, Report

_DEADLINE_S = 10.0


class Objects:
    """The objects in a folder. With `fleet` (an inventory), only its hosts may report. Everything here blocks."""

    def __init__(self, folder: Path, *, fleet: Path | None = None) -> None:
        self._folder = folder
        self._fleet = fleet
        self._writing = threading.Lock()

    def find(self, name: str) -> Path | None:
        """The file of an object; None if there is none of this name. Raises: Failed."""
        path = self._folder / name
        if not kind_of(name):
            return None
        with explained("look at", path):
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        # Not `is_file`: that is also false for what cannot be looked at, always from Python 3.14 on.
        return path if stat.S_ISREG(found.st_mode) else None

    def read(self, path: Path) -> bytes | None:
        """The content of a small object that was found; None if it is gone by now. Raises: Failed."""
        with explained("read", path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def stamp(self, name: str) -> str:
        """What changes with the content of an object; empty if there is none."""
        try:
            state = (self._folder / name).stat()
        except OSError:
            return ""
        return f'"{state.st_mtime_ns:x}-{state.st_size:x}-{state.st_ino:x}"'

    def put_report(self, name: str, content: bytes) -> None:
        """Store a report in place of the one before. Raises: Refused, Failed."""
        found = kind_of(name)
        if found is None or found[0] is not Kind.REPORT:
            raise Refused(Code.NOT_ALLOWED, f"{name[:200]} cannot be written", why="only reports are taken here")
        try:
            document, signature = split_signed(content, most=REPORT_BYTES)
            report = Report.from_bytes(document)
        except WireError as error:
            raise Refused(Code.BAD_REQUEST, "This is no report", why=str(error)) from error
        if (report.app, report.host) != found[1]:
            why = f"it is about {report.app} on {report.host}"
            raise Refused(Code.WRONG_HOST, "The report does not belong here", why=why)
        if self._fleet is not None:
            signer = verify(
                document,
                signature,
                allowed_signers=self._fleet,
                deadline_s=_DEADLINE_S,
                namespace=REPORT_NAMESPACE,
            )
            if signer.principal != report.host:
                why = f"{signer.principal} has"
                raise Refused(Code.SIGNER_UNKNOWN, f"{report.host} has not signed this", why=why)
        path = self._folder / name
        # A host that was not answered in time may send the next one while this one is written.
        with self._writing, explained("write", path):
            volatile.make_folder(path.parent)
            volatile.write(path, content.decode())
