"""Every kind of dishonest bundle we could think of, and the refusal of each."""

from collections.abc import Callable
from dataclasses import dataclass

import zstandard

from pusher.wire import Code
from tests.hostile.archives import (
    END,
    TREE,
    Tree,
    header,
    honest,
    index_of,
    manifest_of,
    member,
    padded,
    pax,
    payload,
    record,
    rle_frame,
    signed,
    squeeze,
    squeeze_with,
)


@dataclass(frozen=True)
class Case:
    """One hostile bundle and the codes it may be refused with."""

    name: str
    make: Callable[[], bytes]
    codes: tuple[Code, ...] = (Code.BUNDLE_MALFORMED,)
    reads_most: int | None = None
    says: str = ""
    shared: tuple[str, ...] = ()


def _tar(name: str, tar: bytes | Callable[[], bytes], **how: object) -> Case:
    return Case(name, lambda: squeeze(tar() if callable(tar) else tar), **how)  # type: ignore[arg-type]


def _instead(path: str, *members: bytes) -> bytes:
    """An honest bundle, with these members in the place of one file."""
    return signed() + payload(but=[path]) + b"".join(members) + END


def _signed(name: str, tree: Tree, *codes: Code, **how: object) -> Case:
    """A bundle whose signer himself lists what may not be: packed without a complaint, as no packer would."""
    chosen = codes or (Code.BUNDLE_MALFORMED,)
    return Case(name, lambda: squeeze(signed(tree) + payload(tree) + END), chosen, **how)  # type: ignore[arg-type]


APP = b"app = 1\n"
_KIB8, _GIB8 = 8 * 1024, 8**11 - 1
MISMATCH, INCOMPLETE = (Code.CONTENT_MISMATCH,), (Code.BUNDLE_INCOMPLETE,)
SKIPPABLE = bytes.fromhex("502a4d1804000000") + b"evil"

MEMBERS = [
    *(
        _tar(f"a member named {name!r}", _instead("app.py", member(name, APP)))
        for name in (
            *("files/../app.py", "files//app.py", "files/./app.py", "/etc/passwd", "../app.py", "files/", "files"),
            *("files/app.py/", "files/../../../../tmp/x", "app.py", "./files/app.py", "files/lib/../app.py"),
            *("files/APP.PY", "files/app.py ", "files/app.p\u200by", "files/lib/u\u0308ber/naïve.txt"),
            *("files/.pusher/manifest.json", "files/venv/bin/python", "files/REVISION", "files/.complete"),
            *("files/latest/x", "files/lib/up", "manifest.json", "index.jsonl", "files/app.py\n"),
        )
    ),
    *(
        _tar(
            f"{what} ({kind!r}) in the place of a file",
            _instead("app.py", member("files/app.py", kind=kind, linkname=b"/etc/passwd")),
            says=what,
        )
        for kind, what in (
            *((b"1", "a hard link"), (b"2", "a symbolic link"), (b"3", "a character device")),
            *((b"4", "a block device"), (b"5", "a folder"), (b"6", "a fifo"), (b"7", "a contiguous file")),
            *((b"S", "a sparse file"), (b"K", "a long link name"), (b"g", "a header for all that follows")),
            *((b"V", "of the unknown kind"), (b"D", "of the unknown kind"), (b"A", "of the unknown kind")),
        )
    ),
    _tar(
        "a sparse file by extended header",
        _instead("app.py", pax(record("GNU.sparse.major", "1")) + member("files/app.py", APP)),
        says="a sparse file",
    ),
    _tar("a file twice, alike", signed() + payload() + member("files/app.py", APP) + END, says="twice"),
    _tar("a file that is not listed", signed() + payload() + member("files/extra", APP) + END, says="'extra'"),
    _tar("another content", _instead("app.py", member("files/app.py", b"app = 2\n")), codes=MISMATCH),
    _tar("a longer content", _instead("app.py", member("files/app.py", APP * 2)), codes=MISMATCH),
    _tar("an emptied content", _instead("app.py", member("files/app.py")), codes=MISMATCH),
    _tar("a file left out", signed() + payload(but=["app.py"]) + END, codes=INCOMPLETE, says="app.py"),
    _tar("a file before the index", member("files/app.py", APP) + signed() + END),
    _tar("the index before the manifest", signed()[1024:] + payload() + END),
    _tar("no signature", member("manifest.json", manifest_of(index_of(TREE), TREE)) + END),
    _tar("nothing", b""),
    _tar("an end and nothing else", END),
    _tar("a manifest and nothing else", member("manifest.json", manifest_of(index_of(TREE), TREE)) + END),
    _tar(
        "a manifest of 64 KiB and a byte",
        member("manifest.json", bytes(64 * 1024 + 1)) + END,
        codes=(Code.LIMIT_EXCEEDED,),
    ),
    _tar(
        "a signature that claims 8 GiB",
        signed()[:1024] + header("manifest.json.sig", _GIB8) + bytes(4096),
        codes=(Code.LIMIT_EXCEEDED,),
    ),
    _tar("an index that claims 8 GiB", signed()[:2048] + header("index.jsonl", _GIB8) + bytes(4096)),
    _tar("an index with an endless line", lambda: _endless_index()),
]
NUMBERS = [
    *(
        _tar(f"a size written as {size!r}", _instead("app.py", header("files/app.py", size) + padded(APP)))
        for size in (
            *(b"\x80" + bytes(10) + b"\x08", b"\xff" * 12, b"-0000000010\0", b"+0000000010\0", b"0x000000008\0"),
            *(bytes(12), b" " * 12, b"00000000019\0", b"1e1".ljust(12), b"10\x0010".ljust(12), b"00000000010_"),
        )
    ),
    _tar("a checksum that is wrong", _instead("app.py", member("files/app.py", APP, checksum=b"000000\0 "))),
    _tar("a checksum that is no number", _instead("app.py", member("files/app.py", APP, checksum=b"notoctal"))),
    _tar("a header without a magic", _instead("app.py", member("files/app.py", APP, magic=bytes(8)))),
    _tar("a name that is not UTF-8", _instead("app.py", member(b"files/\xff\xfe", APP))),
]
EXTENDED = [
    _tar("an extended header that claims 8 GiB", _instead("app.py", header("x", _GIB8, kind=b"x") + bytes(8192))),
    _tar("an extended header of 8 KiB and a byte", _instead("app.py", member("x", bytes(_KIB8 + 1), kind=b"x"))),
    _tar("a long name of 8 KiB and a byte", _instead("app.py", member("x", b"a" * (_KIB8 + 1), kind=b"L"))),
    *(
        _tar(
            f"an extended header of {content[:24]!r}",
            _instead("app.py", member("x", content, kind=b"x") + member("files/app.py", APP)),
        )
        for content in (
            *(
                b"no record at all\n",
                b"0 path=x\n",
                b"99 path=files/app.py\n",
                b"5 path=files/app.py\n",
                b"\0" * 20,
            ),
            *(b"7 path=", b"-9 path=x\n", b"10 path=xy", b"99999999999999999999 path=x\n", b"9 pathxx\n"),
        )
    ),
    *(
        _tar(
            f"an extended size of {size!r}",
            _instead("app.py", pax(record("size", size)) + member("files/app.py", APP)),
            codes=(Code.BUNDLE_MALFORMED, Code.CONTENT_MISMATCH),
        )
        for size in ("-8", "+8", "8.0", "0x8", "", " 8", "8 ", "9" * 19, "٨", "99999999")
    ),
    *(
        _tar(
            f"an extended path of {path!r}",
            _instead("app.py", pax(record("path", path)) + member("files/app.py", APP)),
        )
        for path in ("../../x", "/etc/passwd", "files/../x", "files/app.py\0", "", b"files/\xff", "manifest.json")
    ),
    _tar(
        "a path given twice in a header",
        _instead("app.py", pax(record("path", "files/x"), record("path", "files/app.py")) + member("y", APP)),
    ),
    _tar(
        "a path given by two headers",
        _instead(
            "app.py",
            *(pax(record("path", "files/x")), member("L", b"files/app.py\0", kind=b"L"), member("y", APP)),
        ),
    ),
    _tar("an extended header and then the end", signed() + payload() + pax(record("path", "files/x")) + END),
    _tar(
        "ten thousand extended headers",
        lambda: _instead("app.py", pax(record("path", "files/app.py")) * 10_000, member("y", APP)),
    ),
]
ENDS = [
    _tar("an end of one block", signed() + payload() + bytes(512), says="ends early"),
    _tar("no end at all", signed() + payload(), says="ends early"),
    _tar("a second archive behind the end", lambda: (signed() + payload() + END) * 2, says="follows"),
    _tar("a byte behind the end", signed() + payload() + END + b"\0" * 511 + b"x", says="follows"),
    _tar("two megabytes of nothing behind", signed() + payload() + END + bytes(2 * 1024**2), says="follows"),
    Case("half a frame", lambda: honest()[: len(honest()) // 2], says="ends early"),
    Case("a frame that lacks its last byte", lambda: honest()[:-1], says="ends early"),
    Case("a byte behind the frame", lambda: honest() + b"x", says="ends early"),
    Case("a word behind the frame", lambda: honest() + b"evil", says="follows"),
    Case("a skippable frame behind", lambda: honest() + SKIPPABLE, says="follows"),
    Case("a skippable frame before", lambda: SKIPPABLE + honest()),
    Case("a frame of something behind", lambda: honest() + squeeze(b"x"), says="follows"),
]
FRAMES = [
    Case("nothing at all", lambda: b"", says="ends early"),
    Case("gzip", lambda: bytes.fromhex("1f8b0800") + bytes(100), says="not compressed with zstd"),
    Case("a tar that is not compressed", lambda: signed() + payload() + END, says="not compressed with zstd"),
    Case("a web page", lambda: b"<html>404</html>", says="not compressed with zstd"),
    Case("a window of 16 MiB", lambda: bytes.fromhex("28b52ffd0070") + bytes(100), says="16777216 bytes"),
    Case("a window of 3.75 TiB", lambda: bytes.fromhex("28b52ffd00ff") + bytes(100), says="of memory"),
    Case("one segment of 1 GiB", lambda: bytes.fromhex("28b52ffda000000040") + bytes(100), says="of memory"),
    Case("one segment of 2^64", lambda: bytes.fromhex("28b52ffde0") + b"\xff" * 8 + bytes(9), says="of memory"),
    Case("packed with --long=27", lambda: _long_window(), says="of memory"),
    Case("a dictionary", lambda: bytes.fromhex("28b52ffd016807") + bytes(100)),
    Case("a reserved bit", lambda: bytes.fromhex("28b52ffd0868") + bytes(100)),
    Case("a block of the reserved kind", lambda: bytes.fromhex("28b52ffd0068070000") + bytes(100)),
    Case("a block that claims 2 MiB", lambda: bytes.fromhex("28b52ffd0068fdffff") + bytes(3 * 1024**2)),
    Case("a frame's checksum that is wrong", lambda: _wrong_checksum()),
    Case("another content size than promised", lambda: _wrong_content_size()),
    Case("a bomb of zeros", lambda: rle_frame(b"\0", 80_000), (Code.LIMIT_EXCEEDED,), 256 * 1024),
    Case("a bomb of letters", lambda: rle_frame(b"a", 80_000), reads_most=256 * 1024),
    Case("a bomb in the manifest", lambda: _bomb_in("manifest.json"), (Code.LIMIT_EXCEEDED,), 256 * 1024),
    Case("a bomb in a file", lambda: _bomb_in("files/app.py"), MISMATCH, 256 * 1024),
    Case("a bomb in an extended header", lambda: _bomb_in("files/app.py", kind=b"x"), reads_most=256 * 1024),
    Case("a bomb between two files", lambda: _bomb_between(), reads_most=256 * 1024),
    Case(
        "ten thousand empty frames", lambda: squeeze(b"") * 10_000 + b"evil", (Code.LIMIT_EXCEEDED,), says="frames"
    ),
]
SIGNED = [
    *(
        _signed(f"a listed name {name!r}", {**TREE, name: b"x"}, Code.NAME_NOT_ALLOWED)
        for name in (".pusher/x", ".pusher", "venv", "venv/bin/python", "REVISION", "REVISION/x", ".complete")
    ),
    *(
        _signed(f"a shared name {name!r}", {**TREE, name: b"x"}, Code.NAME_NOT_ALLOWED, shared=shared)
        for name, shared in (
            ("uploads/x", ("uploads",)),
            ("uploads", ("uploads",)),
            ("var/data", ("var/data/db",)),
            ("var", ("var/data",)),
            ("var/data/db/x", ("var/data",)),
            (".env", ("uploads", ".env")),
        )
    ),
    *(
        _signed(f"a listed path {name!r}", {**TREE, name: b"x"})
        for name in (
            *("/etc/passwd", "../x", "a/../../x", "a//x", "./x", "a/./x", "..", ".", "", "a/", "x\0y"),
            *("n" * 256, "lib/up/x", "app.py/x", "latest/x"),
        )
    ),
    _signed("a listed path that is too long", {**TREE, "/".join(["d" * 200] * 6): b"x"}, Code.LIMIT_EXCEEDED),
    _signed("a listed path that is too deep", {**TREE, "/".join("d" * 70): b"x"}, Code.LIMIT_EXCEEDED),
    *(
        _signed(f"a listed link to {target!r}", {**TREE, "e": target})
        for target in (
            *(
                "/etc/passwd",
                "..",
                "../x",
                "lib/../../x",
                "lib/..",
                "",
                "/",
                "a//b",
                "./app.py",
                "lib/\0",
                "x" * 2000,
            ),
            "../" * 60 + "etc/passwd",
        )
    ),
    _signed(
        "links that together lead out",  # x/y/z is x's parent, so e would be the tree's
        {**TREE, "x/y/w": b"", "x/y/z": "../..", "e": "x/y/z/../.."},
    ),
    _signed("a file beneath a listed link", {**TREE, "e": "lib", "e/x": b"x"}),
    _signed("a link beneath a listed link", {**TREE, "e": "lib", "e/x": "../app.py"}),
    _signed("a listed link that is reserved", {**TREE, "venv": "lib"}, Code.NAME_NOT_ALLOWED),
    *(
        Case(f"an index {name}", lambda change=change: _changed_index(change))  # type: ignore[misc]
        for name, change in (
            ("in another order", lambda lines: lines[::-1]),
            ("with a line twice", lambda lines: [lines[0], *lines]),
            ("with an empty line", lambda lines: [*lines, b"\n"]),
            ("without its last newline", lambda lines: [*lines[:-1], lines[-1][:-1]]),
            ("with CRLF", lambda lines: [line[:-1] + b"\r\n" for line in lines]),
            ("with a space more", lambda lines: [lines[0].replace(b":", b": ", 1), *lines[1:]]),
            ("with a member more", lambda lines: [b'{"a":1,' + lines[0][1:], *lines[1:]]),
            ("with mode 4755", lambda lines: [lines[0].replace(b"0644", b"4755"), *lines[1:]]),
            ("with a lone surrogate", lambda lines: [lines[0].replace(b"app", b"\\ud800"), *lines[1:]]),
            ("with a negative size", lambda lines: [lines[0].replace(b'size":', b'size":-'), *lines[1:]]),
            ("with a size in quotes", lambda lines: [lines[0].replace(b'size":8', b'size":"8"'), *lines[1:]]),
            ("with a size of 5,000 digits", lambda lines: [lines[0].replace(b":8", b":" + b"8" * 5000)]),
            ("with a long digest", lambda lines: [lines[0].replace(b'sha256":"', b'sha256":"0'), *lines[1:]]),
            ("that is no JSON", lambda lines: [b"\xff\xfe\n"]),
            ("with a deep JSON", lambda lines: [b"[" * 30_000 + b"\n"]),
        )
    ),
    Case("an index that is not the signed one", lambda: _unsigned_index(), MISMATCH),
    Case("a manifest with a count that is wrong", lambda: _wrong_count()),
]
CASES = [*MEMBERS, *NUMBERS, *EXTENDED, *ENDS, *FRAMES, *SIGNED]


def _endless_index() -> bytes:
    index = b'{"path":"' + b"a" * 3_000_000
    return signed(index=index) + END


def _long_window() -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    return squeeze_with(parameters, signed() + payload() + END)


def _wrong_checksum() -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, write_checksum=True)
    whole = squeeze_with(parameters, signed() + payload() + END)
    return whole[:-1] + bytes([whole[-1] ^ 1])


def _wrong_content_size() -> bytes:
    whole = bytearray(zstandard.ZstdCompressor(level=3).compress(signed() + payload() + END))
    whole[5] ^= 1  # single segment, content size of two or four bytes behind the descriptor
    return bytes(whole)


def _bomb_in(name: str, *, kind: bytes = b"0") -> bytes:
    claims = header(name, 80_000 * 128 * 1024 % 8**11, kind=kind)
    before = b"" if name == "manifest.json" else signed()
    return squeeze(before + claims) + rle_frame(b"\0", 80_000)


def _bomb_between() -> bytes:
    return squeeze(signed() + member("files/app.py", APP)) + rle_frame(b"\0", 80_000)


def _changed_index(change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    index = b"".join(change(index_of(TREE).splitlines(keepends=True)))
    return squeeze(signed(index=index) + payload() + END)


def _unsigned_index() -> bytes:
    other = {**TREE, "app.py": b"app = 2\n"}
    ours, others = signed(), signed(other)
    return squeeze(ours[:2048] + others[2048:] + payload(other) + END)


def _wrong_count() -> bytes:
    index = index_of(TREE)
    manifest = manifest_of(index, {**TREE, "more": b"x"})
    return squeeze(
        member("manifest.json", manifest)
        + member("manifest.json.sig", b"s")
        + member("index.jsonl", index)
        + payload()
        + END
    )
