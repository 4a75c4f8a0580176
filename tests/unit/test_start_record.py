"""The link that a candidate starts from."""

import os
from pathlib import Path

import pytest

from agent.host.systemd.start_record import point_candidate
from pusher.wire import Failed


def test_a_candidates_link_is_pointed_and_its_missing_folder_is_named_with_what_makes_it(tmp_path: Path) -> None:
    link = tmp_path / "candidate"
    point_candidate(link, tmp_path / "one")
    point_candidate(link, tmp_path / "two")
    assert link.readlink() == tmp_path / "two"
    with pytest.raises(Failed, match="app apply NAME"):
        point_candidate(tmp_path / "away/candidate", tmp_path / "one")


def test_what_is_wrong_with_the_disk_is_the_reason(tmp_path: Path) -> None:
    link = tmp_path / ("n" * 255)  # no name beside it fits: the folder is there, and is not the reason
    with pytest.raises(Failed) as caught:
        point_candidate(link, tmp_path)
    assert (caught.value.why, "app apply" in caught.value.hint) == (os.strerror(36), False)
