"""A file that arrives in parts: what is there is a beginning, until its digest says that it is whole."""

import hashlib
from pathlib import Path

import pytest

from agent.host.storage.partial import Partial, keep_only
from pusher.wire import Code, Failed

CONTENT = b"0123456789"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def test_parts_are_added_where_they_belong(tmp_path: Path) -> None:
    part = Partial(tmp_path / "a/file", size=10)
    assert part.arrived() == 0
    part.append(CONTENT[:4], at=0)
    assert part.arrived() == 4
    part.append(b"xx", at=4)
    part.append(CONTENT[4:], at=4)
    assert part.whole(DIGEST)
    part.append(CONTENT[:2], at=0)
    assert part.arrived() == 2
    assert not part.whole(DIGEST)


def test_a_file_that_is_too_long_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 11)
    part = Partial(tmp_path / "file", size=10)
    assert part.arrived() == 0
    assert not (tmp_path / "file").exists()


def test_a_file_of_the_right_size_and_another_content_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10)
    assert not Partial(tmp_path / "file", size=10).whole(DIGEST)


def test_what_is_no_folder_is_a_problem_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failed) as failed:
        Partial(tmp_path / "file/within", size=10).append(b"x", at=0)
    assert failed.value.code is Code.DISK_ERROR


def test_only_what_is_named_is_kept(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    keep_only(tmp_path, frozenset({"b", "c"}))
    assert [one.name for one in tmp_path.iterdir()] == ["b"]
    keep_only(tmp_path / "none", frozenset[str]())
