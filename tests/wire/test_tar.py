"""The tar in a bundle can be read by every tar, and only regular files are read back."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.wire import Refused, tar

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300
).filter(
    lambda name: not name.endswith("/")  # a folder's, to some
)


def archive(*files: tuple[str, bytes]) -> bytes:
    parts = [tar.header(name, size=len(raw)) + raw + tar.padding(len(raw)) for name, raw in files]
    return b"".join(parts) + tar.END


def read(raw: bytes) -> list[tuple[str, bytes]]:
    reader = tar.TarReader(io.BytesIO(raw).read)
    found = []
    while member := reader.next():
        found.append((member.name, b"".join(reader.content())))
    return found


def packed_by_others(form: int, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for name, raw in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.mtime, info.linkname = len(raw), kind, 1.5, "elsewhere"
            made.addfile(info, io.BytesIO(raw))
    return out.getvalue()


@given(NAMES, st.binary(max_size=1500))
def test_an_archive_is_read_back_by_this_reader_and_by_tarfile(name: str, raw: bytes) -> None:
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


def test_a_size_that_a_header_cannot_hold_goes_into_an_extended_header() -> None:
    size = 8**11
    assert tar.TarReader(io.BytesIO(tar.header("big", size=size)).read).next() == ("big", size)
    with tarfile.open(fileobj=io.BytesIO(tar.header("big", size=size)), mode="r|") as other:
        assert next(iter(other)).size == size


def test_a_content_must_be_read_before_the_next_member() -> None:
    reader = tar.TarReader(io.BytesIO(archive(("a", b"x"), ("b", b"y"))).read)
    reader.next()
    with pytest.raises(RuntimeError, match="not read to its end"):
        reader.next()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_other_tars_are_read(form: int) -> None:
    members = [("a", b"x"), ("f" * 40 + "/" + "d" * 90, b"y" * 600)]
    assert read(packed_by_others(form, *members)) == members


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_other_tars_are_read(form: int) -> None:
    members = [("é" * 120, b"x"), ("b", b"y")]
    assert read(packed_by_others(form, *members)) == members


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.DIRTYPE, "a folder"),
        (tarfile.CHRTYPE, "a character device"),
        (tarfile.FIFOTYPE, "a fifo"),
        (b"g", "a header for all that follows"),
        (b"S", "a sparse file"),
        (b"?", "of the unknown kind b'\\?'"),
    ],
)
def test_a_member_that_is_not_a_regular_file_is_refused(kind: bytes, what: str) -> None:
    with pytest.raises(Refused, match=rf"'a/?' is {what}; only regular files are accepted"):
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
        (257, b"nothing!", "it is not a tar of the POSIX or GNU kind"),
        (148, b"000000\0 ", "the header of a member is damaged"),
        (148, b"\x80\0\0\0\0\0\0\0", "the checksum is not an octal number"),
        (124, b"\x80\0\0\0\0\0\0\0\0\0\0\1", "the size of b'a' is not an octal number"),
        (124, b"-0000000001\0", "the size of b'a' is not an octal number"),
        (124, b"0000000001 1", "the size of b'a' is not an octal number"),
        (0, b"\xff", "the name .* is not UTF-8"),
        (124, b"00000010000\0", "it ends early"),
    ],
)
def test_a_damaged_header_is_refused(at: int, value: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        read(with_header(at, value))


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    """An extended header, made by another program."""
    return packed_by_others(tarfile.USTAR_FORMAT, ("x", records), kind=kind)[: 512 + -(-len(records) // 512) * 512]


def with_records(*headers: bytes) -> bytes:
    return b"".join(pax(records) for records in headers) + archive(("a", b"x"))


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (b"12 path=b\n", "an extended header is damaged"),
        (b"9 path=b\n\n", "an extended header is damaged"),
        (b"0 path=b\n", "an extended header is damaged"),
        (b"-9 path=b\n", "an extended header is damaged"),
        (b"x", "an extended header is damaged"),
        (b"7 path\n", "an extended header is damaged"),
        (b"10 path=\xff\n", "the name .* is not UTF-8"),
        (b"9 size=x\n", "the size of 'a' is not a decimal number"),
        (b"22 GNU.sparse.major=1\n", "'x' is a sparse file"),
        (b"10 path=b\n10 path=c\n", "an extended header gives the path of a member twice"),
        (b"x" * 9000, "an extended header has 9000 bytes; the limit is 8192"),
    ],
)
def test_damaged_records_are_refused(records: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        read(with_records(records))


def test_a_path_in_two_extended_headers_is_refused() -> None:
    with pytest.raises(Refused, match="an extended header gives the path of a member twice"):
        read(with_records(b"10 path=b\n", b"10 path=c\n"))


def test_records_about_other_things_are_passed_over() -> None:
    assert read(with_records(b"10 path=b\n11 mtime=1\n")) == [("b", b"x")]
    assert read(with_records(b"11 mtime=1\n")) == [("a", b"x")]


@given(st.integers(1, 700), st.binary(max_size=1500))
def test_short_reads_make_no_difference(most: int, raw: bytes) -> None:
    source = io.BytesIO(archive(("a", raw)))
    reader = tar.TarReader(lambda size: source.read(min(size, most)))
    assert reader.next() == ("a", len(raw))
    assert b"".join(reader.content()) == raw
    assert reader.next() is None


def test_an_archive_that_goes_on_or_stops_too_early_is_refused() -> None:
    made = archive(("a", b"x"))
    assert read(made + bytes(8192)) == [("a", b"x")]
    for more in (b"more", bytes(2 * 1024**2)):
        with pytest.raises(Refused, match="something follows its end"):
            read(made + more)
    with pytest.raises(Refused, match="it ends after an extended header"):
        read(pax(b"10 path=b\n") + tar.END)
    for cut in (0, 100, 512, 513, 1024, 1500):
        with pytest.raises(Refused, match="it ends early"):
            read(made[:cut])
