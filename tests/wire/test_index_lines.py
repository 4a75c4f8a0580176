"""One entry, one line: whichever way a line is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.wire import File, Link, WireError, canonical, index_line, parse_index_line

PATHS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FILES = st.builds(
    File,
    PATHS,
    st.sampled_from([0o644, 0o755]),
    st.integers(0, 10**20),
    st.text("0123456789abcdef", min_size=64, max_size=64),
)


@given(entry=st.one_of(FILES, st.builds(Link, PATHS, PATHS)))
def test_an_entry_comes_back_from_its_line(entry: File | Link) -> None:
    assert parse_index_line(index_line(entry)) == entry


@given(entry=FILES)
def test_a_files_line_is_canonical_json(entry: File) -> None:
    members = {"path": entry.path, "mode": f"{entry.mode:04o}", "size": entry.size, "sha256": entry.sha256}
    assert index_line(entry) == canonical(members) + b"\n"


@given(entry=FILES, at=st.integers(0, 200), instead=st.binary(max_size=3), drop=st.integers(0, 3))
def test_a_line_that_can_be_read_is_the_line_of_its_entry(entry: File, at: int, instead: bytes, drop: int) -> None:
    line = index_line(entry)
    line = line[:at] + instead + line[at + drop :]
    try:
        found = parse_index_line(line)
    except WireError:
        return
    assert index_line(found) == line


@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80"])
def test_a_path_that_is_not_utf_8_is_refused(raw: bytes) -> None:
    line = index_line(File("PATH", 0o644, 1, "0" * 64)).replace(b"PATH", raw)
    with pytest.raises(WireError, match="not UTF-8"):
        parse_index_line(line)
