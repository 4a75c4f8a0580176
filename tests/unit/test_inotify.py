"""Being woken by the kernel, by the real inotify; and what becomes of it when there is none left."""

import ctypes
import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.host.drop.inotify import Names, Watches


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def watch(self, watches: Watches, names: Names = None) -> bool:
        return watches.only([(self.descriptor, names)])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    one = Folder(tmp_path)
    yield one
    os.close(one.descriptor)


@pytest.fixture
def watches() -> Iterator[Watches]:
    one = Watches()
    yield one
    one.close()


def heard(watches: Watches, seconds: float = 10) -> bool:
    select.select([watches.descriptor], [], [], seconds)
    return watches.heard(passing=lambda name: name.startswith("."))


def test_what_changes_in_a_folder_is_heard_of_once(watches: Watches, folder: Folder) -> None:
    assert folder.watch(watches)
    assert not folder.watch(watches)
    (folder.path / "file").write_text("x")
    assert heard(watches)
    assert not heard(watches, 0)
    (folder.path / "file").chmod(0o600)
    assert heard(watches)
    (folder.path / "file").rename(folder.path / "other")
    assert heard(watches)
    os.link(folder.path / "other", folder.path / "linked")
    assert heard(watches)


def test_names_that_do_not_matter_wake_nobody(watches: Watches, folder: Folder) -> None:
    folder.watch(watches)
    (folder.path / ".partial").write_text("x")
    assert not heard(watches)
    assert folder.watch(watches, frozenset({"awaited"}))  # news: what came before may have been passed over
    (folder.path / "file").write_text("x")
    assert not heard(watches)
    (folder.path / "awaited").write_text("x")
    assert heard(watches)


def test_two_reasons_to_watch_a_folder_add_up(watches: Watches, folder: Folder) -> None:
    watches.only([(folder.descriptor, frozenset({"a"})), (folder.descriptor, frozenset({"b"}))])
    for name in ("a", "b"):
        (folder.path / name).write_text("x")
        assert heard(watches)
    assert watches.only([(folder.descriptor, frozenset({"a"})), (folder.descriptor, None)])
    (folder.path / "c").write_text("x")
    assert heard(watches)


def test_a_folder_that_goes_and_comes_again_is_a_new_one(watches: Watches, folder: Folder) -> None:
    for _ in range(2):
        (folder.path / "inner").mkdir()
        inner = Folder(folder.path / "inner")
        assert inner.watch(watches)
        (folder.path / "inner").rmdir()
        os.close(inner.descriptor)
        assert heard(watches)
    assert folder.watch(watches)
    assert not heard(watches, 0)


def test_what_is_watched_no_more_wakes_nobody(watches: Watches, folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    inner = Folder(tmp_path / "inner")
    inner.watch(watches)
    assert folder.watch(watches, frozenset())
    (inner.path / "file").touch()
    os.close(inner.descriptor)
    assert not heard(watches)


def test_an_error_of_the_kernel_is_an_error(watches: Watches, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with pytest.raises(NotADirectoryError):
            watches.only([(descriptor, None)])
    finally:
        os.close(descriptor)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a namespace of its own, as root")
def test_when_there_are_no_watches_left_that_is_said() -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER: a count of its own
            Path("/proc/sys/user/max_inotify_instances").write_text("0")
            Watches()
        except OSError as error:
            code = 0 if error.errno in (errno.EMFILE, errno.ENOSPC) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
