"""What workers share is made by one of them, while the others wait."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.once import once


def making(made: list[Path], *, failures: int = 0) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "half").touch()
        if len(made) <= failures:
            raise OSError("disk full")
        (folder / "half").rename(folder / "whole")

    return make


def test_who_asks_at_the_same_time_gets_what_one_has_made(tmp_path_factory: pytest.TempPathFactory) -> None:
    made: list[Path] = []
    with ThreadPoolExecutor(4) as workers:
        got = list(workers.map(lambda _: once(tmp_path_factory, "shared", making(made)), range(8)))
    assert made == [got[0]]
    assert len(set(got)) == 1
    assert [path.name for path in got[0].iterdir()] == ["whole"]


def test_what_was_made_half_is_made_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    made: list[Path] = []
    make = making(made, failures=1)
    with pytest.raises(OSError, match="disk full"):
        once(tmp_path_factory, "again", make)
    folder = once(tmp_path_factory, "again", make)
    assert len(made) == 2
    assert [path.name for path in folder.iterdir()] == ["whole"]
