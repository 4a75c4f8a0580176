"""Bundles byte by byte: nothing here uses `tarfile`, which would refuse to write most of what is needed."""

import hashlib
import io
from collections.abc import Iterable, Mapping

import zstandard

from pusher.wire import Entry, File, Link, Manifest, index_line

Tree = Mapping[str, bytes | tuple[bytes, int] | str]
"""Path to content, to (content, mode), or to the target of a link."""

TREE: Tree = {
    "app.py": b"app = 1\n",
    "lib/empty": b"",
    "lib/data.bin": bytes(range(256)) * 300,
    "lib/über/naïve.txt": "grüße\n".encode(),
    "requirements.txt": b"flask\n",
    "run": (b"#!/bin/sh\n", 0o755),
    "latest": "lib/data.bin",
    "lib/up": "../app.py",
}
END = bytes(1024)


def entries(tree: Tree) -> list[Entry]:
    found: list[Entry] = []
    for path, what in sorted(tree.items()):
        if isinstance(what, str):
            found.append(Link(path, what))
        else:
            content, mode = what if isinstance(what, tuple) else (what, 0o644)
            found.append(File(path, mode, len(content), hashlib.sha256(content).hexdigest()))
    return found


def content_of(tree: Tree, path: str) -> bytes:
    what = tree[path]
    assert not isinstance(what, str)
    return what[0] if isinstance(what, tuple) else what


def index_of(tree: Tree) -> bytes:
    return b"".join(map(index_line, entries(tree)))


def manifest_of(index: bytes, tree: Tree) -> bytes:
    listed = entries(tree)
    return Manifest(
        app="demo",
        version="v1",
        created=1_700_000_000_000,
        expires=1_800_000_000_000,
        index_sha256=hashlib.sha256(index).hexdigest(),
        index_size=len(index),
        files=len(listed),
        unpacked_size=sum(one.size for one in listed if isinstance(one, File)),
    ).to_bytes()


def header(
    name: str | bytes,
    size: int | bytes,
    *,
    kind: bytes = b"0",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    linkname: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    raw = name.encode() if isinstance(name, str) else name
    sized = size if isinstance(size, bytes) else b"%011o\0" % size
    fields = [
        *(raw.ljust(100, b"\0")[:100], b"0000644\0", b"0000000\0", b"0000000\0", sized, b"00000000000\0"),
        *(b" " * 8, kind, linkname.ljust(100, b"\0"), magic, bytes(64), bytes(16), prefix.ljust(155, b"\0")),
    ]
    block = b"".join(fields).ljust(512, b"\0")
    stamped = b"%06o\0 " % sum(block) if checksum is None else checksum
    return block[:148] + stamped + block[156:]


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def member(name: str | bytes, content: bytes = b"", **how: object) -> bytes:
    how.setdefault("size", len(content))
    return header(name, **how) + padded(content)  # type: ignore[arg-type]


def record(key: str, value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    body = b" %s=%s\n" % (key.encode(), raw)
    size = len(body) + 1
    while len(b"%d" % size) + len(body) != size:
        size += 1
    return b"%d" % size + body


def pax(*records: bytes, name: str = "PaxHeaders/x") -> bytes:
    return member(name, b"".join(records), kind=b"x")


def squeeze(tar: bytes, *, level: int = 3, **how: object) -> bytes:
    compressor = zstandard.ZstdCompressor(level=level, **how)  # type: ignore[arg-type]
    out = io.BytesIO()
    with compressor.stream_writer(out, closefd=False) as stream:
        stream.write(tar)
    return out.getvalue()


def squeeze_with(parameters: zstandard.ZstdCompressionParameters, tar: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(tar) + compressor.flush()


def signed(tree: Tree = TREE, *, index: bytes | None = None) -> bytes:
    index = index_of(tree) if index is None else index
    named = (
        ("manifest.json", manifest_of(index, tree)),
        ("manifest.json.sig", b"signature"),
        ("index.jsonl", index),
    )
    return b"".join(member(name, content) for name, content in named)


def payload(tree: Tree = TREE, *, but: Iterable[str] = ()) -> bytes:
    travelling = [one.path for one in entries(tree) if isinstance(one, File) and one.path not in set(but)]
    return b"".join(member(f"files/{path}", content_of(tree, path)) for path in travelling)


def honest(tree: Tree = TREE, *, but: Iterable[str] = ()) -> bytes:
    """A bundle as it should be, without the files in `but`."""
    return squeeze(signed(tree) + payload(tree, but=but) + END)


def rle_frame(byte: bytes, blocks: int) -> bytes:
    """A zstd frame that expands to `blocks` times 128 KiB of one byte, from four bytes each."""
    block = (1 << 1 | (128 * 1024) << 3).to_bytes(3, "little") + byte
    last = (1 | 1 << 1 | (128 * 1024) << 3).to_bytes(3, "little") + byte
    return bytes.fromhex("28b52ffd0068") + block * (blocks - 1) + last  # window 8 MiB
