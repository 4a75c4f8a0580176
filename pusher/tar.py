"""The tar inside a bundle: regular files and nothing else, written in one way, read strictly.

Format: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block". The standard library's reader
is not used: it takes links, devices, sparse files and three dialects, all of which an agent refuses.
"""

from collections.abc import Iterator
from typing import Protocol

from pusher.wire import Code, Refused

BLOCK = 512
END = bytes(2 * BLOCK)
_PIECE = 1024 * 1024
_NAME, _SIZE, _SUM, _KIND, _MAGIC, _PREFIX = (
    slice(0, 100), slice(124, 136), slice(148, 156), slice(156, 157), slice(257, 265), slice(345, 500),
)  # fmt: skip
_USTAR = b"ustar\x0000"
_LARGEST = 8**11 - 1
_PAX_BYTES = 16 * 1024


class Source(Protocol):
    """Where bytes come from: fewer than asked for only at the end."""

    def read(self, size: int, /) -> bytes: ...


def header(name: str, *, size: int, mode: int = 0o644) -> bytes:
    """What precedes the content of a file: one header, after an extended one where it must be.

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
    return _block(b"PaxHeader", len(records), 0o644, b"x") + records + padding(len(records)) + plain


def padding(size: int) -> bytes:
    """What follows a content of `size` bytes up to the next block."""
    return bytes(-size % BLOCK)


def members(source: Source) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """Name, size and content of each member; what is left of a content is skipped when going on.

    Reads to the end of `source`. Raises: Refused(bundle_malformed) for all that `header` would not write,
    except that the ustar prefix and any mode, owner and time are read as well.
    """
    while (block := _exactly(source, BLOCK)) != bytes(BLOCK):
        kind, records = _kind(block), {}
        if kind == b"x":
            records = _records(_exactly(source, _padded(_octal(block), most=_PAX_BYTES)), _octal(block))
            block = _exactly(source, BLOCK)
            kind = _kind(block)
        if kind != b"0":
            raise _malformed(f"a member is of type {kind!r}, and only regular files travel")
        size = _octal(block)
        if "size" in records:
            if not (records["size"].isascii() and records["size"].isdigit()):
                raise _malformed("a pax record gives a size that is no number")
            size = int(records["size"])
        content = _content(source, size)
        yield records.get("path") or _name(block), size, content
        for _ in content:
            pass
    while rest := source.read(_PIECE):
        if rest.strip(b"\0"):
            raise _malformed("something follows the end of the archive")


def _block(name: bytes, size: int, mode: int, kind: bytes) -> bytes:
    block = bytearray(BLOCK)
    block[_NAME] = name.ljust(100, b"\0")
    block[100:124] = b"%07o\0%07o\0%07o\0" % (mode, 0, 0)
    block[_SIZE] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % 0
    block[_KIND] = kind
    block[_MAGIC] = _USTAR
    block[_SUM] = b"%06o\0 " % _sum(block)
    return bytes(block)


def _sum(block: bytes | bytearray) -> int:
    """The header's checksum, in which its own field counts as spaces."""
    return sum(block) - sum(block[_SUM]) + 8 * ord(" ")


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`, where the length counts its own digits."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _kind(block: bytes) -> bytes:
    if block[_MAGIC] != _USTAR:
        raise _malformed("a member has no ustar header")
    try:
        told = int(block[_SUM].strip(b"\0 "), 8)
    except ValueError:
        told = -1
    if told != _sum(block):
        raise _malformed("the checksum of a header does not fit")
    return block[_KIND]


def _octal(block: bytes) -> int:
    digits = block[_SIZE].strip(b"\0 ")
    if not digits.isdigit() or digits.strip(b"01234567"):
        raise _malformed("a header gives a size that is no octal number")
    return int(digits, 8)


def _name(block: bytes) -> str:
    prefix, name = (block[part].rstrip(b"\0") for part in (_PREFIX, _NAME))
    try:
        return (prefix + b"/" + name if prefix else name).decode()
    except UnicodeDecodeError as error:
        raise _malformed("a name is not in UTF-8") from error


def _records(raw: bytes, size: int) -> dict[str, str]:
    """The records of a pax header; other keys than `path` and `size` are refused."""
    found: dict[str, str] = {}
    at = 0
    while at < size:
        length, _, _ = raw[at:size].partition(b" ")
        end = at + int(length) if length.isdigit() and len(length) < 6 else 0
        key, equals, value = raw[at + len(length) + 1 : end - 1].partition(b"=")
        if not at < end <= size or raw[end - 1 : end] != b"\n" or not equals:
            raise _malformed("a pax record is cut off")
        if key not in (b"path", b"size") or key.decode() in found:
            raise _malformed(f"a pax record sets {key[:40]!r}, or sets it twice")
        try:
            found[key.decode()] = value.decode()
        except UnicodeDecodeError as error:
            raise _malformed("a name is not in UTF-8") from error
        at = end
    return found


def _content(source: Source, size: int) -> Iterator[bytes]:
    left = size
    while left:
        piece = _exactly(source, min(left, _PIECE))
        left -= len(piece)
        yield piece
    _exactly(source, -size % BLOCK)


def _exactly(source: Source, size: int) -> bytes:
    raw = source.read(size) if size else b""
    if len(raw) != size:
        raise _malformed("it ends in the middle")
    return raw


def _padded(size: int, *, most: int) -> int:
    if size > most:
        raise _malformed(f"a pax header has {size} bytes; {most} is the most")
    return size + -size % BLOCK


def _malformed(why: str) -> Refused:
    return Refused(Code.BUNDLE_MALFORMED, "This is not a bundle", why=why, hint="Pack it again")
