"""What publishers write into a repository's folder by HTTP.

Invariant: an object is whole or it is not there, also after a power cut. A bundle has the digest that its name
says. A document is replaced only if it is still the one that the publisher has read; publishers that write into
the folder themselves, or by ssh, are locked out meanwhile by the same flock(2).
"""

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.host.storage.disk import Disk
from agent.host.storage.errors import explained
from agent.host.storage.partial import Partial, keep_only
from agent.repository.names import Kind, kind_of
from pusher.wire import Code, Failed, Refused, WireError
from pusher.wire.channel import CHANNEL_BYTES, Channel, split_signed
from pusher.wire.text import parse_object

LIST_BYTES = 1024 * 1024
BRAKE_BYTES = 4 * 1024
_ROOM_BYTES = 64 * 1024 * 1024
"""So much stays free, for documents and reports."""
_UPLOADS = ".uploads"
_MOST = {Kind.CHANNEL: CHANNEL_BYTES, Kind.RELEASES: LIST_BYTES, Kind.BRAKE: BRAKE_BYTES}


class Publishing:
    """Writes into a folder. Bundles may have `bundle_most` bytes. Everything here blocks."""

    def __init__(self, folder: Path, *, disk: Disk, bundle_most: int) -> None:
        self._folder = folder
        self._disk = disk
        self._bundle_most = bundle_most

    def clear(self) -> None:
        """Remove what uploads have left that were cut off. Raises: Failed."""
        keep_only(self._folder / _UPLOADS, frozenset[str]())

    def begin(self, name: str, size: int) -> "Incoming | None":
        """A place for a bundle of this size; None if the bundle is there. Raises: Refused, Failed."""
        found = kind_of(name)
        if found is None or found[0] is not Kind.BUNDLE:
            raise Refused(Code.NOT_ALLOWED, f"{name[:200]} cannot be written", why="it is no name of a bundle")
        path = self._folder / name
        if path.is_file():
            return None
        if not size:
            raise Refused(Code.BAD_REQUEST, "The bundle is empty")
        if size > self._bundle_most:
            why = f"it has {size} bytes; at most {self._bundle_most} are taken"
            raise Refused(
                Code.LIMIT_EXCEEDED, "The bundle is too large", why=why, hint="Raise `bundle_most` there"
            )
        with explained("look at", self._folder):
            free = shutil.disk_usage(self._folder).free
        if free - size < _ROOM_BYTES:
            why = f"it has {size} bytes, and {free} are free"
            raise Failed(
                Code.DISK_FULL, "There is no room for the bundle", why=why, hint="pusher repository prune"
            )
        return Incoming(path, size=size, sha256=found[1][0], uploads=self._folder / _UPLOADS, disk=self._disk)

    def replace(self, name: str, content: bytes, *, match: str, none_match: str) -> str:
        """Store a document on a condition, as the headers If-Match and If-None-Match name it; its tag.

        Raises: Refused: not_allowed without a condition, channel_changed if it does not hold.
        """
        _check_size(name, content)
        if not match and none_match != "*":
            raise Refused(
                Code.NOT_ALLOWED,
                f"{name} is not replaced without a condition",
                why="two publishers could overwrite each other's word",
                hint='Send If-Match with the ETag of what is there, or "If-None-Match: *"',
            )
        path = self._folder / name
        with self._locked(path):
            found = _read(path)
            tag = document_tag(found) if found is not None else ""
            wanted = [one.strip() for one in match.split(",")]
            if (match and (not tag or (tag not in wanted and match.strip() != "*"))) or (
                none_match == "*" and tag
            ):
                raise Refused(Code.CHANNEL_CHANGED, f"{name} was changed meanwhile", why="it is another one now")
            _check_form(name, content)
            self._disk.write(path, content, op="repository.document", replace=True)
        return document_tag(content)

    def remove(self, name: str) -> None:
        """Remove a brake. Raises: Refused, Failed."""
        found = kind_of(name)
        if found is None or found[0] is not Kind.BRAKE:
            why = "only brakes are; bundles go by `pusher repository prune` in the folder itself"
            raise Refused(Code.NOT_ALLOWED, f"{name[:200]} is not removed by HTTP", why=why)
        self._disk.unlink(self._folder / name, op="repository.brake")

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        with explained("lock", path):
            self._disk.make_folders(path.parent, op="repository.folder", most=0o755)
            descriptor = os.open(
                path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666
            )
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(descriptor)


class Incoming:
    """A bundle on its way in. It counts when `finish` has returned."""

    def __init__(self, path: Path, *, size: int, sha256: str, uploads: Path, disk: Disk) -> None:
        self._path = path
        self._sha256 = sha256
        self._folder = uploads / secrets.token_hex(8)
        self._part = Partial(self._folder.with_suffix(".part"), size=size)
        self._digest = hashlib.sha256()
        self._at = 0
        self._disk = disk

    def append(self, piece: bytes) -> None:
        """Take the next bytes. Raises: Refused, above the size that was told; Failed."""
        if self._at + len(piece) > self._part.size:
            raise Refused(Code.LIMIT_EXCEEDED, "The bundle is longer than its Content-Length")
        self._part.append(piece, at=self._at)
        self._digest.update(piece)
        self._at += len(piece)

    def finish(self) -> None:
        """Put it in place, flushed. Raises: Refused(content_mismatch), Failed."""
        if self._at != self._part.size or self._digest.hexdigest() != self._sha256:
            why = f"its SHA-256 is {self._digest.hexdigest()}, after {self._at} of {self._part.size} bytes"
            raise Refused(
                Code.CONTENT_MISMATCH, f"The bundle is not {self._sha256}", why=why, hint="Send it again"
            )
        if self._part.arrived() != self._part.size:
            # The digest is that of what came. Another server of this folder clears at its start what lies there.
            why = "somebody else has removed a part of it"
            raise Failed(Code.UPLOAD_BROKEN, "The bundle was not kept whole", why=why, hint="Send it again")
        self._disk.make_folders(self._path.parent, op="repository.folder", most=0o755)
        self._disk.place(self._part.path, self._path, op="repository.bundle", mode=0o644)

    def abandon(self) -> None:
        """Remove what has arrived, unless it is in place. Raises: Failed."""
        self._part.remove()


def document_tag(content: bytes) -> str:
    """The ETag of a document: its digest, for two that are written within a moment have the same time."""
    return f'"{hashlib.sha256(content).hexdigest()}"'


def _check_size(name: str, content: bytes) -> None:
    """Refuse what is no document, or larger than one of its kind may be. Raises: Refused."""
    found = kind_of(name)
    most = _MOST.get(found[0], 0) if found else 0
    if not most:
        why = "publishers write bundles, channels, brakes and lists of releases"
        raise Refused(Code.NOT_ALLOWED, f"{name[:200]} cannot be written", why=why)
    if len(content) > most:
        raise Refused(Code.LIMIT_EXCEEDED, f"{name} is too large", why=f"it has more than {most} bytes")


def _check_form(name: str, content: bytes) -> None:
    """Refuse a document without the form of its kind. Whose signature counts, hosts decide. Raises: Refused."""
    found = kind_of(name)
    try:
        if found and found[0] is Kind.CHANNEL:
            document = Channel.from_bytes(split_signed(content)[0])
            if (document.app, document.channel) != found[1]:
                raise WireError(f"it is for {document.app}, {document.channel}")
        elif found and found[0] is Kind.RELEASES:
            parse_object(content, "the list of releases")
    except WireError as error:
        raise Refused(Code.CHANNEL_MALFORMED, f"{name} cannot be used", why=str(error)) from error


def _read(path: Path) -> bytes | None:
    with explained("read", path):
        try:
            with path.open("rb") as file:
                return file.read(LIST_BYTES + 1)
        except FileNotFoundError:
            return None
