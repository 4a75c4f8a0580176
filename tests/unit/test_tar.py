"""The tar in a bundle is one that every tar reads, and only regular files are read back."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.bundle import tar
from pusher.wire import Refused

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300
).filter(
    lambda name: not name.endswith("/")  # a folder's, to some
)


def archive(*files: tuple[str, bytes]) -> bytes:
    parts = [tar.header(name, size=len(raw)) + raw + tar.padding(len(raw)) for name, raw in files]
    return b"".join(parts) + tar.END


def read(raw: bytes) -> list[tuple[str, bytes]]:
    return [(name, b"".join(content)) for name, _, content in tar.members(io.BytesIO(raw))]


def packed_by_others(form: int, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for name, raw in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.mtime, info.linkname = len(raw), kind, 1.5, "elsewhere"
            made.addfile(info, io.BytesIO(raw))
    return out.getvalue()


@given(NAMES, st.binary(max_size=1500))
def test_what_was_written_is_read_back_by_us_and_by_others(name: str, raw: bytes) -> None:
    made = archive((name, raw), ("after", b"x"))
    assert read(made) == [(name, raw), ("after", b"x")]
    with tarfile.open(fileobj=io.BytesIO(made)) as other:
        assert [member.size for member in other] == [len(raw), 1]
        assert other.getmembers()[0].name == name


def test_owner_time_and_mode_are_always_the_same() -> None:
    made = tar.header("a", size=1, mode=0o755) + b"x".ljust(512, b"\0") + tar.END
    with tarfile.open(fileobj=io.BytesIO(made)) as other:
        (member,) = other.getmembers()
    assert (member.mode, member.uid, member.gid, member.mtime) == (0o755, 0, 0, 0)


def test_a_size_that_a_header_cannot_hold_is_told_beside_it() -> None:
    size = 8**11
    source = io.BytesIO(tar.header("big", size=size))
    name, told, _ = next(tar.members(source))
    assert (name, told) == ("big", size)
    with tarfile.open(fileobj=io.BytesIO(tar.header("big", size=size)), mode="r|") as other:
        assert next(iter(other)).size == size


def test_contents_that_nobody_reads_are_skipped() -> None:
    made = archive(("a", b"x" * 5000), ("b", b"y"))
    assert [name for name, _, _ in tar.members(io.BytesIO(made))] == ["a", "b"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_other_tars_are_read(form: int) -> None:
    members = [("a", b"x"), ("f" * 40 + "/" + "d" * 90, b"y" * 600)]
    assert read(packed_by_others(form, *members)) == members


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_other_tars_are_read(form: int) -> None:
    members = [("é" * 120, b"x"), ("b", b"y")]
    assert read(packed_by_others(form, *members)) == members


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"g", b"S"]
)
def test_what_is_no_regular_file_is_refused(kind: bytes) -> None:
    with pytest.raises(Refused, match=r"'a/?' is of type .*, and only regular files travel"):
        read(packed_by_others(tarfile.USTAR_FORMAT, ("a", b""), kind=kind))


def with_header(at: int, value: bytes) -> bytes:
    """An archive whose header has `value` at a place, and a checksum that fits if that is another place."""
    block = bytearray(tar.header("a", size=1))
    block[at : at + len(value)] = value
    if at != 148:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + b"x".ljust(512, b"\0") + tar.END


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (257, b"nothing!", "a member has no header"),
        (148, b"000000\0 ", "the checksum of a header does not fit"),
        (148, b"\x80\0\0\0\0\0\0\0", "a number that is not octal"),
        (124, b"\x80\0\0\0\0\0\0\0\0\0\0\1", "a number that is not octal"),
        (124, b"-0000000001\0", "a number that is not octal"),
        (124, b"0000000001 1", "a number that is not octal"),
        (0, b"\xff", "a name is not in UTF-8"),
        (124, b"00000010000\0", "it ends in the middle"),
    ],
)
def test_a_damaged_header_is_refused(at: int, value: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        read(with_header(at, value))


def with_records(records: bytes) -> bytes:
    return tar._block(b"x", len(records), 0o644, b"x") + records + tar.padding(len(records)) + archive(("a", b"x"))


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (b"12 path=b\n", "a pax record is cut off"),
        (b"9 path=b\n\n", "a pax record is cut off"),
        (b"0 path=b\n", "a pax record is cut off"),
        (b"-9 path=b\n", "a pax record is cut off"),
        (b"x", "a pax record is cut off"),
        (b"7 path\n", "a pax record is cut off"),
        (b"10 path=\xff\n", "a name is not in UTF-8"),
        (b"22 GNU.sparse.major=1\n", "a member is a sparse file"),
        (b"x" * 9000, "an extended header has 9000 bytes; 8192 is the most"),
    ],
)
def test_damaged_records_are_refused(records: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        read(with_records(records))


def test_records_about_other_things_are_passed_over() -> None:
    assert read(with_records(b"10 path=b\n11 mtime=1\n")) == [("b", b"x")]
    assert read(with_records(b"11 mtime=1\n")) == [("a", b"x")]
    assert read(with_records(b"9 size=x\n")) == [("a", b"x")]


def test_an_archive_that_goes_on_or_stops_too_early_is_refused() -> None:
    made = archive(("a", b"x"))
    assert read(made + bytes(8192)) == [("a", b"x")]
    with pytest.raises(Refused, match="something follows the end"):
        read(made + b"more")
    for cut in (0, 100, 512, 513, 1024, 1500):
        with pytest.raises(Refused, match="ends in the middle"):
            read(made[:cut])
