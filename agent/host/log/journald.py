"""The agent's log as entries of the system's journal; each key is a field that can be searched for.

Invariant: no value can become another field, as every value travels with its length. Writing never waits and
never fails. An entry that the journal does not accept at once is sent before the next one; the oldest are dropped.

Format: systemd's native journal protocol, https://systemd.io/JOURNAL_NATIVE_PROTOCOL
"""

import array
import errno
import fcntl
import json
import os
import re
import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

SOCKET = Path("/run/systemd/journal/socket")
_IDENTIFIER = "pusher-agent"
_WAITING = 256
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog(3)
_NOT_A_NAME = re.compile(r"[^A-Z0-9_]")
_PLAIN = re.compile(r"[^\s\"=]+")
_NAME_CHARACTERS = 64


def is_journal(descriptor: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `descriptor` is connected to the journal: $JOURNAL_STREAM, systemd.exec(5).

    The variable alone proves nothing: a child inherits it even if its output goes elsewhere.
    """
    try:
        stat = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM", "") == f"{stat.st_dev}:{stat.st_ino}"


class Journald:
    """A logger for structlog, which hands it encoded entries; every level is the same method."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = str(path)
        self._waiting: deque[bytes] = deque(maxlen=_WAITING)

    def write(self, entry: bytes) -> None:
        """Write an entry made by `encode`. Never waits, never fails."""
        self._waiting.append(entry)
        # One at a time out of the queue and back into it: threads log too, and none may wait for another.
        while self._waiting:
            with suppress(IndexError):
                first = self._waiting.popleft()
                try:
                    self._send(first)
                except OSError:
                    self._waiting.appendleft(first)
                    return

    debug = info = warning = error = critical = msg = write

    def _send(self, entry: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.sendto(entry, self._path)
            except OSError as problem:
                if problem.errno not in _TOO_LARGE:
                    raise
                self._send_file(entry, sock)

    def _send_file(self, entry: bytes, sock: socket.socket) -> None:
        """Send what is too large for a datagram as a sealed file in memory, which cannot be changed any more."""
        file = os.memfd_create("entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(file, "wb") as memory:
            memory.write(entry)
            memory.flush()
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))]
            sock.sendmsg([], rights, 0, self._path)


def entry(_: object, __: str, event: MutableMapping[str, Any]) -> bytes:
    """The last processor for structlog: the event as one entry of the journal.

    MESSAGE is for people: the event's name, its keys, and the traceback if there is one.
    """
    level, trace = str(event.pop("level", "info")), event.pop("exception", "")
    name = str(event.pop("event", ""))
    message = " ".join([name, *(f"{key}={_shown(value)}" for key, value in event.items())])
    fields = [(field_name(key), value) for key, values in event.items() for value in _each(values)]
    return encode(
        [
            ("MESSAGE", f"{message}\n{trace}" if trace else message),
            ("PRIORITY", _PRIORITIES.get(level, _PRIORITIES["info"])),
            ("SYSLOG_IDENTIFIER", _IDENTIFIER),
            ("EVENT", name),
            *((name, value) for name, value in fields if name not in _OURS),
        ]
    )


def encode(fields: Iterable[tuple[str, object]]) -> bytes:
    """Fields in the protocol's binary form: the name, a newline, the length (64 bits), the value, a newline."""
    parts = []
    for name, value in fields:
        data = str(value).encode(errors="backslashreplace")
        parts.append(b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data))
    return b"".join(parts)


def field_name(key: str) -> str:
    """A key as the name of a field: at most 64 of A-Z, 0-9 and _, the first one a letter."""
    name = _NOT_A_NAME.sub("_", key.upper()).lstrip("_0123456789")
    return name[:_NAME_CHARACTERS] or "FIELD"


_OURS = ("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "EVENT")


def _each(value: object) -> Iterator[object]:
    """A field may have several values."""
    if isinstance(value, list | tuple):
        yield from value
    elif value is not None:
        yield value


def _shown(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
