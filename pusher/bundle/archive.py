"""A bundle as one stream, written and read back: signed manifest, then files (docs/reference/bundle-format.md).

Invariant: only a piece of a bundle is in memory, whatever its size. Every content that is read is compared with
the index.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pusher.bundle.signed_manifest import SignedManifest
from pusher.errors import Usage
from pusher.wire import (
    INDEX_NAME,
    MANIFEST_BYTES,
    MANIFEST_NAME,
    PAYLOAD_PREFIX,
    SIGNATURE_BYTES,
    SIGNATURE_NAME,
    Code,
    Entry,
    File,
    Limits,
    Manifest,
    Refused,
    WireError,
    malformed_bundle,
    read_index,
    tar,
)
from pusher.wire.stream import PieceReader
from pusher.wire.tar import TarReader

Member = tuple[File, Iterator[bytes]]

# Each host sets its own limits. Here only names and order are checked.
_ANY_NUMBER = Limits(files=10**9, unpacked=10**18)
_INDEX_BYTES = 1024**3
_PIECE = 128 * 1024
# A block of 4 bytes can expand to 128 KiB (RFC 8878, 3.1.1.2), and a piece is expanded at once: to 32 MiB at
# most. With pieces as large as those written, 33 kB of a sparse file became 2 GiB.
_READ_PIECE = 1024
# Higher levels take half as much time again and save 3 % of a large bundle.
_LEVEL = 1
# What RFC 8878 asks every decoder to support, and what an agent accepts.
_WINDOW = 8 * 1024**2


class Payload(Protocol):
    """Files that can be sent."""

    @property
    def files(self) -> tuple[File, ...]: ...

    def contents(self, wanted: Collection[str] | None = None, /) -> Iterator[Member]:
        """The files, or those whose digest is in `wanted`. Read each content before the next file."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """What a bundle begins with. Manifest and index agree; the signature is not verified yet."""

    signed: SignedManifest
    manifest: Manifest
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle in a file. Its manifest and index agree; the signature is not verified yet."""

    file: Path
    signed: SignedManifest
    manifest: Manifest
    entries: tuple[Entry, ...]

    @property
    def files(self) -> tuple[File, ...]:
        return tuple(entry for entry in self.entries if isinstance(entry, File))

    def contents(self, wanted: Collection[str] | None = None) -> Iterator[Member]:
        """As `Payload.contents`, in the order of the archive.

        Raises: Refused, for a repeated or unlisted name, and for a content that differs from the index.
        """
        listed = {file.path: file for file in self.files}
        with self.file.open("rb") as raw:
            members = _reader(raw)
            for _ in _signed_manifest(members):
                pass
            while member := members.next():
                file = listed.pop(member.name.removeprefix(PAYLOAD_PREFIX), None)
                if file is None or not member.name.startswith(PAYLOAD_PREFIX):
                    raise malformed_bundle(f"{member.name!r} is in it twice, or not in its index")
                if member.size != file.size:
                    raise _mismatch(file.path)
                if wanted is None or file.sha256 in wanted:
                    yield file, _checked(file, members.content())
                for _ in members.content():
                    pass


def bundle_name(app: str, version: str) -> str:
    """The name of a bundle's file: a version like feature/login makes no folder."""
    return f"{app}-{version.replace('/', '-')}.tar.zst"


def read_bundle(file: Path) -> Bundle:
    """The bundle in `file`; its payload is not read yet.

    Raises: Usage, if the file cannot be read; Refused, if manifest or index is malformed, or they do not match.
    """
    try:
        with file.open("rb") as raw:
            head = read_head(iter(lambda: raw.read(_PIECE), b""), name=str(file))
    except OSError as error:
        raise Usage(f"{file} cannot be read", why=error.strerror or str(error)) from error
    return Bundle(file, head.signed, head.manifest, head.entries)


def read_head(pieces: Iterator[bytes], *, name: str = "The bundle") -> Head:
    """The head of a bundle that comes in pieces. No more of them are read than it needs.

    Raises: Refused, if manifest or index is malformed, or they do not match. `name` is for the message.
    """
    signed = SignedManifest(*_signed_manifest(_reader(PieceReader(pieces))))
    try:
        manifest = Manifest.from_bytes(signed.manifest)
        digest = hashlib.sha256(signed.index).hexdigest()
        if (manifest.index_size, manifest.index_sha256) != (len(signed.index), digest):
            raise Refused(
                Code.CONTENT_MISMATCH, f"{name} was changed", why="its index is not the one that was signed"
            )
        entries = tuple(read_index(signed.index.splitlines(keepends=True), limits=_ANY_NUMBER))
    except WireError as error:
        raise malformed_bundle(str(error)) from error
    return Head(signed, manifest, entries)


def write_bundle(signed: SignedManifest, contents: Iterable[Member] = ()) -> Iterator[bytes]:
    """The bundle as a stream of pieces: an ordinary zstd tar in one frame, the signed manifest first."""
    # Imported here: it takes 15 ms, which a command without a bundle does not spend.
    import zstandard

    chunker = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).chunker(chunk_size=_PIECE)
    named = {MANIFEST_NAME: signed.manifest, SIGNATURE_NAME: signed.signature, INDEX_NAME: signed.index}
    for name, raw in named.items():
        yield from chunker.compress(tar.header(name, size=len(raw)) + raw + tar.padding(len(raw)))
    for file, content in contents:
        yield from chunker.compress(tar.header(PAYLOAD_PREFIX + file.path, size=file.size, mode=file.mode))
        for piece in content:
            yield from chunker.compress(piece)
        yield from chunker.compress(tar.padding(file.size))
    yield from chunker.compress(tar.END)
    yield from chunker.finish()  # type: ignore[no-untyped-call]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _reader(raw: _Readable) -> TarReader:
    return TarReader(PieceReader(_decompressed(raw)).read)


def _decompressed(raw: _Readable) -> Iterator[bytes]:
    """The zstd frames of a file, in pieces. The file must end with a frame. Raises: Refused."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    frame = decompressor.decompressobj()
    while piece := (frame.unused_data if frame.eof else b"") or raw.read(_READ_PIECE):
        if frame.eof:
            frame = decompressor.decompressobj()
        try:
            yield frame.decompress(piece)
        except zstandard.ZstdError as error:
            raise malformed_bundle(f"it is not compressed with zstd, or is damaged ({error})") from error
    if not frame.eof:
        raise malformed_bundle("it ends early")


def _signed_manifest(members: TarReader) -> Iterator[bytes]:
    """The first three members: manifest, signature and index, in this order. Raises: Refused."""
    most = {MANIFEST_NAME: MANIFEST_BYTES, SIGNATURE_NAME: SIGNATURE_BYTES, INDEX_NAME: _INDEX_BYTES}
    for expected, limit in most.items():
        member = members.next()
        if member is None or member.name != expected:
            raise malformed_bundle(f"{expected} is missing, or not in its place")
        if member.size > limit:
            raise Refused(Code.LIMIT_EXCEEDED, f"{expected} has {member.size} bytes", why=f"the limit is {limit}")
        yield b"".join(members.content())


def _checked(file: File, content: Iterator[bytes]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for piece in content:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != file.sha256:
        raise _mismatch(file.path)


def _mismatch(path: str) -> Refused:
    return Refused(Code.CONTENT_MISMATCH, f"{path!r} differs from the index", hint="Pack the bundle again")
