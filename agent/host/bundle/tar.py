"""A bundle as it arrives: a zstd tar, read strictly and once, front to back.

Invariant: a member is a regular file, in the one order a bundle has, or the bundle is refused by the name of
the offending member; nothing is buffered that the sender could make large.

Python's `tarfile` is not used: its stream mode reads an extended header of any claimed size into memory,
skips headers it cannot read, and hides what it makes of names and sizes. The little of the format that a
bundle needs is fewer lines than the defences would be. Format: POSIX.1-2017, pax (ustar and extended
headers); GNU's long names ('L'), so that GNU tar can make a bundle by its defaults.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from agent.host.bundle.zstd import Exactly, Read, decompress, malformed
from pusher.wire import (
    INDEX_NAME,
    MANIFEST_BYTES,
    MANIFEST_NAME,
    PAYLOAD_PREFIX,
    SIGNATURE_BYTES,
    SIGNATURE_NAME,
    Code,
    Refused,
)

_BLOCK = 512
_EXTENDED_MOST = 8 * 1024
_LINE_MOST = 32 * 1024
_PADDING_MOST = 1024 * 1024
_POSIX, _GNU = b"ustar\x0000", b"ustar  \x00"
_REGULAR, _EXTENDED, _LONG_NAME = (b"0", b"\0"), b"x", b"L"
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder",
    b"6": "a fifo",
    b"7": "a contiguous file",
    b"g": "a header for all that follows",
    b"K": "a long link name",
    b"S": "a sparse file",
}


class TarBundle:
    """The `Bundle` port over a blocking `read`, which returns at most so many bytes and none at the end."""

    def __init__(self, read: Read) -> None:
        self._tar = _Tar(read)

    def signed_manifest(self) -> tuple[bytes, bytes]:
        """The manifest and its signature, as in the port."""
        return self._paper(MANIFEST_NAME, MANIFEST_BYTES), self._paper(SIGNATURE_NAME, SIGNATURE_BYTES)

    def index(self, size: int) -> Iterator[bytes]:
        """The lines of the index, as in the port."""
        found = self._expected(INDEX_NAME)
        if found != size:
            raise malformed(f"its index has {found} bytes; the manifest says {size}")
        rest = b""
        for chunk in self._tar.content():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line + b"\n"
            if len(rest) > _LINE_MOST:
                raise malformed("its index has a line longer than two paths can be")
        if rest:
            yield rest

    def files(self) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        """The files that travelled, as in the port."""
        while (member := self._tar.next()) is not None:
            name, size = member
            if not name.startswith(PAYLOAD_PREFIX):
                raise malformed(f"it contains {name[:200]!r} after the index, where only files/... may be")
            yield name.removeprefix(PAYLOAD_PREFIX), size, self._tar.content()

    def _paper(self, name: str, most: int) -> bytes:
        size = self._expected(name)
        if size > most:
            raise Refused(
                Code.LIMIT_EXCEEDED,
                "The bundle cannot be read",
                why=f"its {name} has {size} bytes; {most} is the most",
                hint="Pack it with `pusher pack`",
            )
        return b"".join(self._tar.content())

    def _expected(self, name: str) -> int:
        member = self._tar.next()
        if member is None or member[0] != name:
            found = "ends" if member is None else f"has {member[0][:200]!r}"
            raise malformed(f"it {found} where {name} should be")
        return member[1]


class _Header(NamedTuple):
    kind: bytes
    name: bytes  # cut off anywhere, also within a character, if an extended header has the whole
    size: int

    def shown(self, said: Mapping[str, str]) -> str:
        """Its name for a message."""
        return repr(said.get("path", self.name.decode("utf-8", "backslashreplace"))[:200])


class _Tar:
    """The members of a tar, one after the other."""

    def __init__(self, read: Read) -> None:
        self._pieces = decompress(read)
        self._piece = b""
        self._at = 0
        self._source = Exactly(self._read, "it")
        self._left = 0
        self._padding = 0

    def next(self) -> tuple[str, int] | None:
        """Name and size of the next member; None behind the last, when the archive has ended as it must."""
        if self._left:
            raise RuntimeError("a member of a bundle was not read to its end")
        said: dict[str, str] = {}
        while True:
            header = self._header()
            if header is None:
                if said:
                    raise malformed("it ends behind an extended header")
                return None
            if header.kind in _REGULAR:
                break
            said |= self._extended(header, said)
        name = said["path"] if "path" in said else _text(header.name)
        self._begin(_decimal(said["size"], name) if "size" in said else header.size)
        return name, self._left

    def content(self) -> Iterator[bytes]:
        """The content of the member that `next` named, in pieces."""
        while self._left:
            chunk = self._read(self._left)
            if not chunk:
                raise malformed("it ends early")
            self._left -= len(chunk)
            if not self._left:
                self._source.take(self._padding)
            yield chunk

    def _begin(self, size: int) -> None:
        self._left, self._padding = size, -size % _BLOCK

    def _header(self) -> _Header | None:
        block = self._source.take(_BLOCK)
        if not any(block):
            self._end()
            return None
        if _octal(block[148:156], "checksum") != sum(block) - sum(block[148:156]) + 8 * ord(" "):
            raise malformed("a member's header is damaged")
        if block[257:265] not in (_POSIX, _GNU):
            raise malformed("it is not a tar of the POSIX or GNU kind")
        raw, prefix = block[:100].partition(b"\0")[0], block[345:500].partition(b"\0")[0]
        if prefix and block[257:265] == _POSIX:
            raw = prefix + b"/" + raw
        return _Header(block[156:157], raw, _octal(block[124:136], f"size of {raw[:200]!r}"))

    def _extended(self, header: _Header, said: dict[str, str]) -> dict[str, str]:
        """What a header that is not a member itself says of the member behind it."""
        if header.kind not in (_EXTENDED, _LONG_NAME):
            kind = _KINDS.get(header.kind, f"of the unknown kind {header.kind!r}")
            raise malformed(f"{header.shown(said)} is {kind}; only regular files may travel")
        if header.size > _EXTENDED_MOST:
            raise malformed(f"an extended header has {header.size} bytes; {_EXTENDED_MOST} is the most")
        self._begin(header.size)
        content = b"".join(self.content())
        records = _records(content) if header.kind == _EXTENDED else [("path", content.rstrip(b"\0"))]
        found: dict[str, str] = {}
        for key, value in records:
            if key.startswith("GNU.sparse."):
                raise malformed(f"{header.shown(said)} is {_KINDS[b'S']}")
            if key in ("path", "size"):
                if key in found or key in said:
                    raise malformed(f"an extended header gives a member's {key} twice")
                found[key] = _text(value)
        return found

    def _end(self) -> None:
        """The second block of zeros, the padding to a full record, and nothing else."""
        end = self._source.take(_BLOCK)
        padding = 0
        while end:
            padding += len(end)
            if any(end) or padding > _PADDING_MOST:
                raise malformed("something follows where it should end")
            end = self._read(_BLOCK)

    def _read(self, size: int) -> bytes:
        while self._at >= len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._piece, self._at = piece, 0
        part = self._piece[self._at : self._at + size]
        self._at += len(part)
        return part


def _octal(field: bytes, name: str) -> int:
    """A number of a header. Base-256, which could be negative, is for what no bundle holds: refused."""
    match = re.fullmatch(rb" *([0-7]+)[ \0]*", field)
    if not match:
        raise malformed(f"the {name} is not an octal number")
    return int(match[1], 8)


def _decimal(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise malformed(f"the size of {name[:200]!r} is not a decimal number")
    return int(text)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"the name {raw[:200]!r} is not UTF-8") from error


def _records(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The records of a pax header: `length key=value`, newline included in the length."""
    while content:
        match = re.match(rb"([1-9][0-9]{0,4}) ([^=\n]+)=", content)
        size = int(match[1]) if match else 0
        if not match or not match.end() < size <= len(content) or content[size - 1] != ord("\n"):
            raise malformed("an extended header is damaged")
        yield match[2].decode("utf-8", "backslashreplace"), content[match.end() : size - 1]
        content = content[size:]
