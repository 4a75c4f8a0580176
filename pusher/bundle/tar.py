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
_USTAR, _GNU = b"ustar\x0000", b"ustar  \0"
_REGULAR, _EXTENDED = (b"0", b"\0"), (b"x", b"L")
_LARGEST = 8**11 - 1
_EXTENDED_BYTES = 8 * 1024


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

    Reads to the end of `source`, and reads what GNU tar writes as well. Raises: Refused(bundle_malformed)
    for any member that is no regular file, and for anything cut off or left over.
    """
    said: dict[str, str] = {}
    while any(block := _exactly(source, BLOCK)):
        kind, size = _kind(block), _octal(block)
        if kind in _EXTENDED:
            if size > _EXTENDED_BYTES:
                raise _malformed(f"an extended header has {size} bytes; {_EXTENDED_BYTES} is the most")
            raw = _exactly(source, size + len(padding(size)))[:size]
            said |= _records(raw) if kind == b"x" else {"path": _text(raw.rstrip(b"\0"))}
            continue
        name = said.get("path") or _name(block)
        if kind not in _REGULAR:
            raise _malformed(f"{name!r} is of type {kind!r}, and only regular files travel")
        size = int(said.get("size", size))
        content = _content(source, size)
        yield name, size, content
        for _ in content:
            pass
        said = {}
    while rest := source.read(_PIECE):
        if any(rest):
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
    if block[_MAGIC] not in (_USTAR, _GNU):
        raise _malformed("a member has no header")
    if _number(block[_SUM]) != _sum(block):
        raise _malformed("the checksum of a header does not fit")
    return block[_KIND]


def _octal(block: bytes) -> int:
    return _number(block[_SIZE])


def _number(field: bytes) -> int:
    digits = field.strip(b"\0 ")
    if not digits or digits.strip(b"01234567"):
        raise _malformed("a header has a number that is not octal")
    return int(digits, 8)


def _name(block: bytes) -> str:
    prefix = block[_PREFIX].partition(b"\0")[0] if block[_MAGIC] == _USTAR else b""
    name = block[_NAME].partition(b"\0")[0]
    return _text(prefix + b"/" + name if prefix else name)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _malformed("a name is not in UTF-8") from error


def _records(raw: bytes) -> dict[str, str]:
    """`path` and `size` of a pax header; what else it says (times, owners) does not matter here."""
    found: dict[str, str] = {}
    while raw:
        length = raw.partition(b" ")[0]
        end = int(length) if length.isdigit() and len(length) < 6 else 0
        key, equals, value = raw[len(length) + 1 : end - 1].partition(b"=")
        if not 0 < end <= len(raw) or raw[end - 1 : end] != b"\n" or not equals:
            raise _malformed("a pax record is cut off")
        if key.startswith(b"GNU.sparse"):
            raise _malformed("a member is a sparse file, and only regular files travel")
        if key == b"path" or (key == b"size" and value.isdigit()):
            found[key.decode()] = _text(value)
        raw = raw[end:]
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


def _malformed(why: str) -> Refused:
    return Refused(Code.BUNDLE_MALFORMED, "This is not a bundle", why=why, hint="Pack it again")
