"""Bundles: papers and contents as one stream, and that stream read back (docs/reference/bundle-format.md).

Invariant: whatever the size of a bundle, only a piece of it is in memory; what is read is a claim until
somebody holds it against the index.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from pusher.bundle import tar
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
    read_index,
)

Member = tuple[File, Iterator[bytes]]

# How much a host takes is the host's to say; here only names and order are judged.
_ANY_NUMBER = Limits(files=10**9, unpacked=10**18)
_INDEX_BYTES = 1024**3
_PIECE = 128 * 1024
# A block of 4 bytes can expand to 128 KiB (RFC 8878, 3.1.1.2), and all of a piece is expanded at once: to 32 MiB
# at most. Pieces as large as those written made 2 GiB of 33 kB of a sparse file.
_READ_PIECE = 1024
# The next ones cost half as much time again, and save 3 % where it counts: in what is large.
_LEVEL = 1
# What RFC 8878 asks every decoder to support, and what an agent reads.
_WINDOW = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """What is read first: the manifest, the signature over it, and the index that it names."""

    manifest: bytes
    signature: bytes
    index: bytes


class Cargo(Protocol):
    """Something whose files can be sent."""

    @property
    def files(self) -> tuple[File, ...]: ...

    def contents(self, wanted: Collection[str] | None = None, /) -> Iterator[Member]:
        """Its files, or those whose digest is in `wanted`; each content is read before going on."""
        ...


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle in a file, whose papers agree with each other; nobody has judged the signature."""

    file: Path
    signed: SignedManifest
    manifest: Manifest
    entries: tuple[Entry, ...]

    @property
    def files(self) -> tuple[File, ...]:
        return tuple(entry for entry in self.entries if isinstance(entry, File))

    def contents(self, wanted: Collection[str] | None = None) -> Iterator[Member]:
        """As `Cargo.contents`, in the order of the archive.

        Raises: Refused, for a repeated or unlisted name, and for a content that is not the index's.
        """
        listed = {file.path: file for file in self.files}
        with self.file.open("rb") as raw:
            members = tar.members(_Unpacked(raw))
            for _ in _signed_manifest(members):
                pass
            for name, size, content in members:
                file = listed.pop(name.removeprefix(PAYLOAD_PREFIX), None)
                if file is None or not name.startswith(PAYLOAD_PREFIX):
                    raise _malformed(f"{name!r} is in it twice, or is not in its index")
                if size != file.size:
                    raise _mismatch(file.path)
                if wanted is None or file.sha256 in wanted:
                    yield file, _proved(file, content)


def read(file: Path) -> Bundle:
    """The bundle in `file`, its payload not yet looked at.

    Raises: Usage if it cannot be read, Refused for papers that are malformed or do not belong together.
    """
    try:
        with file.open("rb") as raw:
            signed = SignedManifest(*_signed_manifest(tar.members(_Unpacked(raw))))
    except OSError as error:
        raise Usage(f"{file} cannot be read", why=error.strerror or str(error)) from error
    try:
        manifest = Manifest.from_bytes(signed.manifest)
        digest = hashlib.sha256(signed.index).hexdigest()
        if (manifest.index_size, manifest.index_sha256) != (len(signed.index), digest):
            raise Refused(Code.CONTENT_MISMATCH, f"{file} was changed", why="its index is not the signed one")
        entries = tuple(read_index(signed.index.splitlines(keepends=True), limits=_ANY_NUMBER))
    except WireError as error:
        raise _malformed(str(error)) from error
    return Bundle(file, signed, manifest, entries)


def write(signed: SignedManifest, contents: Iterable[Member] = ()) -> Iterator[bytes]:
    """The bundle as a stream of pieces: an ordinary zstd tar, papers first, one frame."""
    # Late: 15 ms that a command without a bundle does not spend.
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


class _Unpacked:
    """The zstd frames of a file, decompressed as they are read."""

    def __init__(self, raw: BinaryIO) -> None:
        import zstandard

        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self._frame = self._decompressor.decompressobj()
        self._error = zstandard.ZstdError
        self._ready = bytearray()

    def read(self, size: int, /) -> bytes:
        while len(self._ready) < size and self._more():
            pass
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken

    def _more(self) -> bool:
        """Decompress a piece; False at the end of the file, which must be the end of a frame."""
        frame = self._frame
        piece = (frame.unused_data if frame.eof else b"") or self._raw.read(_READ_PIECE)
        if not piece:
            if not frame.eof:
                raise _malformed("it ends in the middle")
            return False
        if frame.eof:
            frame = self._frame = self._decompressor.decompressobj()
        try:
            self._ready += frame.decompress(piece)
        except self._error as error:
            raise _malformed(f"it is not compressed with zstd, or is damaged ({error})") from error
        return True


def _signed_manifest(members: Iterator[tuple[str, int, Iterator[bytes]]]) -> Iterator[bytes]:
    """The first three members, which must be the papers in their order."""
    most = {MANIFEST_NAME: MANIFEST_BYTES, SIGNATURE_NAME: SIGNATURE_BYTES, INDEX_NAME: _INDEX_BYTES}
    for expected, limit in most.items():
        name, size, content = next(members, ("", 0, iter(())))
        if name != expected:
            raise _malformed(f"{expected} is missing, or not at its place")
        if size > limit:
            raise Refused(Code.LIMIT_EXCEEDED, f"{name} has {size} bytes", why=f"{limit} is the most")
        yield b"".join(content)


def _proved(file: File, content: Iterator[bytes]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for piece in content:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != file.sha256:
        raise _mismatch(file.path)


def _mismatch(path: str) -> Refused:
    return Refused(Code.CONTENT_MISMATCH, f"{path!r} is not what the index says", hint="Pack it again")


def _malformed(why: str) -> Refused:
    return Refused(Code.BUNDLE_MALFORMED, "This is not a bundle", why=why, hint="Pack it again")
