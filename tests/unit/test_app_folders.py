"""Folders that root makes and removes for an app, while others may change them."""

import os
from pathlib import Path

import pytest

from agent.host.setup.app_folders import Entered, check_place, mounts_at, remove
from pusher.wire import Failed, Refused

TABLE = """\
20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 0:5 / /opt/shop/shared/up\\040loads rw,relatime shared:1 - tmpfs none rw
22 20 0:6 / /opt/shop2 rw - tmpfs none rw
"""


def test_mount_points_in_a_folder_are_found_whatever_their_names(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert mounts_at(Path("/opt/shop"), table=table) == ["/opt/shop/shared/up loads"]
    assert mounts_at(Path("/opt/shop2"), table=table) == ["/opt/shop2"]
    assert mounts_at(Path("/opt/shop/releases"), table=table) == []


def test_no_link_leads_out_of_a_tree_that_is_removed(tmp_path: Path) -> None:
    (tmp_path / "app/releases").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (tmp_path / "app/releases/link").symlink_to(tmp_path / "kept")
    remove(tmp_path / "app")
    assert [*tmp_path.iterdir()] == [tmp_path / "kept"]
    assert (tmp_path / "kept/file").exists()
    (tmp_path / "app").symlink_to(tmp_path / "kept")
    for name in ("app", "missing"):
        with pytest.raises(Failed, match="could not be removed completely"):
            remove(tmp_path / name)
    assert (tmp_path / "kept/file").exists()


def test_a_folder_is_not_entered_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(Failed, match="Could not make"), Entered(tmp_path / "link"):
        pass


def test_a_place_that_is_reached_by_a_link_is_named_as_it_really_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "opt").symlink_to("real")
    with pytest.raises(Refused) as caught:
        check_place(tmp_path / "opt/shop")
    assert caught.value.why == f"{tmp_path}/opt is a link"
    assert caught.value.hint == f"Name it by its real path, {tmp_path}/real/shop"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another group")
@pytest.mark.parametrize(("mode", "group"), [(0o777, 0), (0o775, 1), (0o2775, 1)])
def test_a_place_beneath_a_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int, group: int) -> None:
    shared, roots = tmp_path / "shared", tmp_path / "roots"
    for folder in (shared, roots):
        folder.mkdir()
        os.chown(folder, 0, 0)
    os.chown(shared, 0, group)
    shared.chmod(mode)
    roots.chmod(0o775)
    with pytest.raises(Refused) as caught:
        check_place(shared / "app")
    assert caught.value.why.startswith(f"others than root may write to {shared}")
    # What is wrong is said of the folder where it is wrong: here, of one further up.
    with pytest.raises(Refused) as caught:
        check_place(roots / "app")
    assert not caught.value.why.startswith(str(roots))
