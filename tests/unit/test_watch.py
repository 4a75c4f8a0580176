"""Watching folders with the real `watchfiles`, and what happens when the kernel gives no more watches."""

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from agent.host.drop.watch import Ignores, Watch

DEADLINE_S = 10

Watching = Callable[[Mapping[Path, Ignores | None]], Watch]


@pytest.fixture
def watching() -> Iterator[Watching]:
    """Makes watches of folders, whose descriptors are closed at once, and closes the watches."""
    with ExitStack() as made:

        def watch(paths: Mapping[Path, Ignores | None]) -> Watch:
            folders = {os.open(path, os.O_RDONLY | os.O_DIRECTORY): ignores for path, ignores in paths.items()}
            one = Watch(folders, step_s=0.01)
            made.callback(one.close)
            for folder in folders:
                os.close(folder)
            return one

        yield watch


def woken(watch: Watch) -> bool:
    """What `wait` returns; false also if it did not return in time."""
    giving_up = threading.Timer(DEADLINE_S, watch.close)
    giving_up.start()
    try:
        return watch.wait()
    finally:
        giving_up.cancel()


def wakes(watching: Watching, folder: Path, change: Callable[[], object]) -> bool:
    """Whether a change wakes a watch that ignores names with a dot, and is closed by a change of `.end`."""

    def ignores(name: str) -> bool:
        if name == ".end":
            watch.close()
        return name.startswith(".")

    watch = watching({folder: ignores})
    change()
    (folder / ".end").touch()
    found = woken(watch)
    (folder / ".end").unlink()
    return found


def test_every_kind_of_change_in_a_folder_wakes(watching: Watching, tmp_path: Path) -> None:
    watch = watching({tmp_path: None})
    file = tmp_path / "file"
    for change in (
        lambda: file.write_text("x"),
        lambda: file.chmod(0o600),
        lambda: os.utime(file),
        lambda: file.rename(tmp_path / "other"),
        lambda: os.link(tmp_path / "other", file),
        lambda: file.unlink(),
        lambda: (tmp_path / "folder").mkdir(),
    ):
        change()
        assert woken(watch)


def test_a_watch_reports_what_happened_between_two_waits(watching: Watching, tmp_path: Path) -> None:
    watch = watching({tmp_path: None})
    (tmp_path / "file").touch()
    assert woken(watch)


def test_ignored_names_and_the_folders_inside_wake_nobody(watching: Watching, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    assert not wakes(watching, tmp_path, (tmp_path / ".partial").touch)
    assert not wakes(watching, tmp_path, (tmp_path / "inside/file").touch)
    assert wakes(watching, tmp_path, (tmp_path / "file").touch)


def test_reading_a_file_is_no_change(watching: Watching, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert not wakes(watching, tmp_path, (tmp_path / "file").read_text)


def test_a_link_to_a_folder_is_not_followed(watching: Watching, tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    assert not wakes(watching, inside, (outside / "x").touch)


def test_a_folder_that_is_removed_and_made_is_another_folder(watching: Watching, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    watch = watching({folder: None})
    for other in (False, True):
        descriptor = os.open(folder, os.O_RDONLY)
        assert watch.covers([descriptor]) is not other
        os.close(descriptor)
        folder.rmdir()
        folder.mkdir()


def test_closing_ends_a_wait_under_way_and_every_later_one(watching: Watching, tmp_path: Path) -> None:
    watch = watching({tmp_path: None})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(watch.wait)
        watch.close()
        assert not waiting.result(timeout=DEADLINE_S)
    (tmp_path / "file").touch()
    assert not watch.wait()


def test_a_closed_watch_keeps_nothing_of_the_kernel_although_somebody_keeps_it(tmp_path: Path) -> None:
    def instances() -> set[str]:
        found = set()
        for number in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):
                if "inotify" in os.readlink(f"/proc/self/fd/{number}"):
                    found.add(number)
        return found

    before = instances()
    folder = os.open(tmp_path, os.O_RDONLY)
    watch = Watch({folder: None}, step_s=0.01)
    made = instances() - before
    assert len(made) == 1
    watch.close()
    deadline = time.monotonic() + DEADLINE_S
    while made & instances() and time.monotonic() < deadline:
        time.sleep(0.01)  # its thread ends by itself
    assert not made & instances()
    assert not watch.wait()
    os.close(folder)


def test_a_name_that_is_not_utf_8_breaks_a_watch_and_a_new_one_works(watching: Watching, tmp_path: Path) -> None:
    watch = watching({tmp_path: None})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
    with pytest.raises(OSError, match="Unable to decode path"):
        woken(watch)
    watch = watching({tmp_path: None})
    (tmp_path / "file").touch()
    assert woken(watch)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a namespace of its own, as root")
@pytest.mark.parametrize("limit", ["max_inotify_instances", "max_inotify_watches"])
def test_without_a_watch_left_making_one_raises(limit: str, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER: a count of its own
            Path(f"/proc/sys/user/{limit}").write_text("0")
            Watch({os.open(tmp_path, os.O_RDONLY): None})
        except OSError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
