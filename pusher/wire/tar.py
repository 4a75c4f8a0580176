"""The tar inside a bundle: regular files and nothing else, written in one way, read strictly, front to back.

Invariant: a member that is not a regular file is refused by its name, as is anything cut off or left over;
nothing is buffered that the sender could make large.

Format: POSIX.1-2017, pax ("ustar Interchange Format" and "pax Header Block"). GNU's long names ('L') are read as
well, so that GNU tar can make a bundle with its defaults. Python's `tarfile` is not used: its stream mode
reads an extended header of any claimed size into memory, skips headers it cannot read, and accepts links, devices
and sparse files.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pusher.wire.problems import malformed_bundle
from pusher.wire.stream import Read, read_exactly

_BLOCK = 512
_NAME, _MODE_AND_OWNER, _SIZE, _TIME, _SUM, _KIND, _MAGIC, _PREFIX = (
    slice(0, 100), slice(100, 124), slice(124, 136), slice(136, 148), slice(148, 156), slice(156, 157),
    slice(257, 265), slice(345, 500),
)  # fmt: skip
_POSIX, _GNU = b"ustar\x0000", b"ustar  \x00"
_REGULAR, _EXTENDED, _LONG_NAME = (b"0", b"\0"), b"x", b"L"
_SPARSE = "a sparse file"
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
    b"S": _SPARSE,
}
_LARGEST = 8**11 - 1
_EXTENDED_BYTES = 8 * 1024
_EXTENDED_MOST = 4  # of one member: a long name, a long link name, pax records, and one to spare
_END_BYTES = 1024 * 1024
_SHOWN = 200
_RECORD = re.compile(rb"([1-9][0-9]{0,4}) ([^=\n]+)=")

END = bytes(2 * _BLOCK)
"""What follows the last member."""


def header(name: str, *, size: int, mode: int = 0o644) -> bytes:
    """What precedes the content of a file: one header, after an extended one if it needs one.

    Owner and time are zero. Names of up to 100 ASCII bytes go into the header itself, all others and sizes
    from 8 GiB into a pax record; the ustar prefix field is left empty.
    """
    encoded = name.encode()
    records = b""
    if len(encoded) > 100 or not name.isascii():
        records += _record(b"path", encoded)
        encoded = name.encode("ascii", "replace")[-100:]
    if size > _LARGEST:
        records += _record(b"size", str(size).encode())
    plain = _block(encoded, min(size, _LARGEST), mode, b"0")
    if not records:
        return plain
    return _block(b"PaxHeader", len(records), 0o644, _EXTENDED) + records + padding(len(records)) + plain


def padding(size: int) -> bytes:
    """What follows a content of `size` bytes up to the next block."""
    return bytes(-size % _BLOCK)


class Member(NamedTuple):
    """A regular file of the archive; `size` in bytes."""

    name: str
    size: int


class TarReader:
    """The members of a tar, one after the other. Everything raises Refused(bundle_malformed).

    `count` is called for each header before it is read, and may raise.
    """

    def __init__(self, read: Read, *, count: Callable[[], None] = lambda: None) -> None:
        self._read = read
        self._count = count
        self._left = 0
        self._padding = 0

    def next(self) -> Member | None:
        """The next member; None after the last, when the archive has ended as it must.

        The content of the member before must have been read to its end (else RuntimeError).
        """
        if self._left:
            raise RuntimeError("a member of a bundle was not read to its end")
        extended: dict[str, str] = {}
        for _ in range(_EXTENDED_MOST + 1):
            found = self._header()
            if found is None:
                if extended:
                    raise malformed_bundle("it ends after an extended header")
                return None
            if found.kind in _REGULAR:
                break
            extended |= self._extended(found, extended)
        else:
            raise malformed_bundle(f"a member has more than {_EXTENDED_MOST} extended headers")
        name = extended["path"] if "path" in extended else _text(found.name)
        self._begin(_decimal(extended["size"], name) if "size" in extended else found.size)
        return Member(name, self._left)

    def content(self) -> Iterator[bytes]:
        """The content of the member that `next` returned, in pieces as large as they are read."""
        while self._left:
            piece = self._read(self._left)
            if not piece:
                raise malformed_bundle("it ends early")
            self._left -= len(piece)
            if not self._left:
                read_exactly(self._read, self._padding)
            yield piece

    def _header(self) -> "_Header | None":
        self._count()
        block = read_exactly(self._read, _BLOCK)
        if not any(block):
            self._end()
            return None
        if _octal(block[_SUM], "checksum") != _sum(block):
            raise malformed_bundle("the header of a member is damaged")
        if block[_MAGIC] not in (_POSIX, _GNU):
            raise malformed_bundle("it is not a tar of the POSIX or GNU kind")
        name, prefix = block[_NAME].partition(b"\0")[0], block[_PREFIX].partition(b"\0")[0]
        if prefix and block[_MAGIC] == _POSIX:
            name = prefix + b"/" + name
        return _Header(block[_KIND], name, _octal(block[_SIZE], f"size of {name[:_SHOWN]!r}"))

    def _extended(self, found: "_Header", before: dict[str, str]) -> dict[str, str]:
        """`path` and `size` of the member that follows, as this header gives them."""
        shown = repr(before.get("path", found.name.decode("utf-8", "backslashreplace"))[:_SHOWN])
        if found.kind not in (_EXTENDED, _LONG_NAME):
            kind = _KINDS.get(found.kind, f"of the unknown kind {found.kind!r}")
            raise malformed_bundle(f"{shown} is {kind}; only regular files are accepted")
        if found.size > _EXTENDED_BYTES:
            raise malformed_bundle(f"an extended header has {found.size} bytes; the limit is {_EXTENDED_BYTES}")
        self._begin(found.size)
        content = b"".join(self.content())
        records = _records(content) if found.kind == _EXTENDED else [("path", content.rstrip(b"\0"))]
        values: dict[str, str] = {}
        for key, value in records:
            if key.startswith("GNU.sparse."):
                raise malformed_bundle(f"{shown} is {_SPARSE}; only regular files are accepted")
            if key in ("path", "size"):
                if key in values or key in before:
                    raise malformed_bundle(f"an extended header gives the {key} of a member twice")
                values[key] = _text(value)
        return values

    def _begin(self, size: int) -> None:
        self._left, self._padding = size, len(padding(size))

    def _end(self) -> None:
        """The second block of zeros, the padding to a full record, and nothing else."""
        rest = read_exactly(self._read, _BLOCK)
        read = 0
        while rest:
            read += len(rest)
            if any(rest) or read > _END_BYTES:
                raise malformed_bundle("something follows its end")
            rest = self._read(_BLOCK)


class _Header(NamedTuple):
    kind: bytes
    name: bytes  # may be cut, even within a character, if an extended header has all of it
    size: int


def _block(name: bytes, size: int, mode: int, kind: bytes) -> bytes:
    block = bytearray(_BLOCK)
    block[_NAME] = name.ljust(100, b"\0")
    block[_MODE_AND_OWNER] = b"%07o\0%07o\0%07o\0" % (mode, 0, 0)
    block[_SIZE] = b"%011o\0" % size
    block[_TIME] = b"%011o\0" % 0
    block[_KIND] = kind
    block[_MAGIC] = _POSIX
    block[_SUM] = b"%06o\0 " % _sum(block)
    return bytes(block)


def _sum(block: bytes | bytearray) -> int:
    """The checksum of a header, in which its own field counts as spaces."""
    return sum(block) - sum(block[_SUM]) + 8 * ord(" ")


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`, where the length counts its own digits."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _records(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The records of a pax header, as `_record` writes them."""
    at = 0
    while at < len(content):
        match = _RECORD.match(content, at)
        end = at + int(match[1]) if match else 0
        if not match or not match.end() < end <= len(content) or content[end - 1] != ord("\n"):
            raise malformed_bundle("an extended header is damaged")
        yield match[2].decode("utf-8", "backslashreplace"), content[match.end() : end - 1]
        at = end


def _octal(field: bytes, name: str) -> int:
    """A number of a header. Base-256 is refused: it could be negative, and no bundle needs it."""
    match = re.fullmatch(rb" *([0-7]+)[ \0]*", field)
    if not match:
        raise malformed_bundle(f"the {name} is not an octal number")
    return int(match[1], 8)


def _decimal(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise malformed_bundle(f"the size of {name[:_SHOWN]!r} is not a decimal number")
    return int(text)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise malformed_bundle(f"the name {raw[:_SHOWN]!r} is not UTF-8") from error
