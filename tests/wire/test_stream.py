"""Pieces of any size come out as exact numbers of bytes and as whole lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.wire import Refused
from pusher.wire.stream import LineSplitter, PieceReader, read_exactly


def cut(raw: bytes, at: list[int]) -> list[bytes]:
    """`raw` in pieces that begin at these places."""
    ends = sorted({min(one, len(raw)) for one in at})
    return [raw[begin:end] for begin, end in zip([0, *ends], [*ends, len(raw)], strict=True)]


PLACES = st.lists(st.integers(0, 60), max_size=8)


@given(st.binary(max_size=60), PLACES, st.integers(1, 20))
def test_a_reader_of_pieces_returns_all_of_them(raw: bytes, at: list[int], size: int) -> None:
    read = PieceReader(iter(cut(raw, at))).read
    parts = []
    while part := read(size):
        parts.append(part)
    assert b"".join(parts) == raw
    assert all(len(part) <= size for part in parts)
    assert read(size) == b""


@given(PLACES)
def test_an_exact_number_of_bytes_is_read_or_none_at_the_end(at: list[int]) -> None:
    read = PieceReader(iter(cut(bytes(range(60)), at))).read
    assert read_exactly(read, 0) == b""
    assert read_exactly(read, 41) == bytes(range(41))
    assert read_exactly(read, 19, or_end=True) == bytes(range(41, 60))
    assert read_exactly(read, 1, or_end=True) == b""
    with pytest.raises(Refused, match="this ends early"):
        read_exactly(read, 1, name="this")


def test_a_source_that_ends_within_the_bytes_is_refused() -> None:
    with pytest.raises(Refused, match="it ends early"):
        read_exactly(PieceReader(iter([b"abc"])).read, 4, or_end=True)


@given(st.binary(max_size=60).map(lambda raw: raw.replace(b"0", b"\n")), PLACES)
def test_lines_do_not_depend_on_the_pieces(raw: bytes, at: list[int]) -> None:
    lines = LineSplitter(60)
    found = [line for piece in cut(raw, at) for line in lines.feed(piece)]
    assert [*found, lines.end()] == raw.split(b"\n")
    assert lines.end() == b""


@given(st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line), max_size=6), PLACES)
def test_a_line_that_is_too_long_is_one_byte_longer_than_the_limit(texts: list[bytes], at: list[int]) -> None:
    lines = LineSplitter(5)
    raw = b"".join(line + b"\n" for line in texts)
    assert [line for piece in cut(raw, at) for line in lines.feed(piece)] == [line[:6] for line in texts]


def test_a_line_that_is_too_long_comes_out_before_its_end() -> None:
    lines = LineSplitter(5)
    assert lines.feed(b"abc") == []
    assert lines.feed(b"def") == [b"abcdef"]
    assert lines.feed(b"ghi") == []
    assert lines.end() == b""
    assert lines.feed(b"jkl\nnext\n") == [b"next"]
