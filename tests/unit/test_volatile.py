"""Files that need not survive a power cut are replaced at once, whatever an earlier write has left."""

import os
import stat
from pathlib import Path

import pytest

from agent.host.storage import volatile


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_file_is_replaced_with_exactly_its_mode(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        volatile.write(tmp_path / "a", "one")
        volatile.write(tmp_path / "a", "two", mode=0o640)
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_text() == "two"
    assert mode_of(tmp_path / "a") == 0o640
    assert os.listdir(tmp_path) == ["a"]


def test_what_a_write_that_was_cut_off_left_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("mine")
    (tmp_path / ".a.new").symlink_to("outside")
    volatile.write(tmp_path / "a", "new")
    (tmp_path / ".link.new").write_text("left")
    volatile.point(tmp_path / "link", "a")
    assert (tmp_path / "outside").read_text() == "mine"
    assert (tmp_path / "link").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["a", "link", "outside"]


def test_a_link_is_pointed_again(tmp_path: Path) -> None:
    volatile.point(tmp_path / "link", "one")
    volatile.point(tmp_path / "link", "two")
    assert os.readlink(tmp_path / "link") == "two"


def test_a_fifo_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "fifo").write_text("in the way")
    volatile.make_fifo(tmp_path / "fifo", mode=0o620)
    assert stat.S_ISFIFO((tmp_path / "fifo").lstat().st_mode)
    assert mode_of(tmp_path / "fifo") == 0o620


def test_folders_and_removals_can_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        volatile.make_folder(tmp_path / "a/b")
        volatile.remove(tmp_path / "missing")
    assert (tmp_path / "a/b").is_dir()
    with pytest.raises(OSError, match="File exists"):
        volatile.make_folder(Path(__file__))
