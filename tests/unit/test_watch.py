"""Watching folders with the real inotify(7), and what happens when the kernel gives no more watches."""

import asyncio
import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from inotify_simple import INotify

from agent.host.drop.watch import Ignores, Watch

DEADLINE_S = 10
MOST_QUEUED = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())

Watching = Callable[[Mapping[Path, Ignores | None]], Watch]


@pytest.fixture
def watching() -> Iterator[Watching]:
    """Makes watches of folders, whose descriptors are closed at once, and closes the watches."""
    INotify().close()  # the first of a process blocks: it asks another program for the name of the C library
    with ExitStack() as made:

        def watch(paths: Mapping[Path, Ignores | None]) -> Watch:
            folders = {os.open(path, os.O_RDONLY | os.O_DIRECTORY): ignores for path, ignores in paths.items()}
            one = Watch(folders, step_s=0.01)
            made.callback(one.close)
            for folder in folders:
                os.close(folder)
            return one

        yield watch


def descriptors() -> set[str]:
    """The descriptors of this process, but those that reading them needs."""
    return {number for number in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{number}").exists()}


async def woken(watch: Watch) -> bool:
    """What `wait` returns; false also if it did not return in time."""
    asyncio.get_running_loop().call_later(DEADLINE_S, watch.close)
    return await watch.wait()


async def wakes(watching: Watching, folder: Path, change: Callable[[], object]) -> bool:
    """Whether a change wakes a watch that ignores names with a dot, before a later one that does."""
    asked = []

    def ignores(name: str) -> bool:
        asked.append(name)
        return name.startswith(".")

    watch = watching({folder: ignores})
    change()
    (folder / "later").touch()
    assert await woken(watch)
    (folder / "later").unlink()
    return next(name for name in asked if not name.startswith(".")) != "later"


async def test_every_kind_of_change_in_a_folder_wakes(watching: Watching, tmp_path: Path) -> None:
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
        assert await woken(watch)


async def test_a_watch_reports_what_happened_between_two_waits(watching: Watching, tmp_path: Path) -> None:
    watch = watching({tmp_path: None})
    (tmp_path / "file").touch()
    assert await woken(watch)


async def test_ignored_names_and_the_folders_inside_wake_nobody(watching: Watching, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    assert not await wakes(watching, tmp_path, (tmp_path / ".partial").touch)
    assert not await wakes(watching, tmp_path, (tmp_path / "inside/file").touch)
    assert await wakes(watching, tmp_path, (tmp_path / "file").touch)


async def test_reading_a_file_is_no_change(watching: Watching, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert not await wakes(watching, tmp_path, (tmp_path / "file").read_text)


async def test_a_link_to_a_folder_is_not_followed(watching: Watching, tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    assert not await wakes(watching, inside, (outside / "x").touch)


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


async def test_closing_ends_a_wait_under_way_and_every_later_one(watching: Watching, tmp_path: Path) -> None:
    watch = watching({tmp_path: None})
    waiting = asyncio.create_task(watch.wait())
    await asyncio.sleep(0)
    watch.close()
    assert not await waiting
    (tmp_path / "file").touch()
    assert not await watch.wait()


async def test_a_wait_that_is_given_up_leaves_the_next_one_working(watching: Watching, tmp_path: Path) -> None:
    watch = watching({tmp_path: None})
    waiting = asyncio.create_task(watch.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    (tmp_path / "file").touch()
    assert await woken(watch)


async def test_a_closed_watch_keeps_nothing_of_the_kernel_although_somebody_keeps_it(tmp_path: Path) -> None:
    before = descriptors()
    folder = os.open(tmp_path, os.O_RDONLY)
    watch = Watch({folder: None}, step_s=0.01)
    assert len(descriptors() - before) == 3  # the folder, the watch's own of it, and the kernel's queue
    waiting = asyncio.create_task(watch.wait())
    await asyncio.sleep(0)
    watch.close()
    assert not await waiting
    os.close(folder)
    assert descriptors() == before


async def test_a_folder_that_cannot_be_watched_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as file:
        before = descriptors()
        with pytest.raises(NotADirectoryError):
            Watch({file.fileno(): None})
        assert descriptors() == before


async def test_a_name_that_is_not_utf_8_wakes_like_any_other(watching: Watching, tmp_path: Path) -> None:
    for change in (os.mkdir, os.rmdir):
        watch = watching({tmp_path: lambda name: not name.endswith("\udcff")})
        change(os.fsencode(tmp_path) + b"/\xff")
        assert await woken(watch)


async def test_a_full_queue_of_the_kernel_wakes_whatever_was_lost(watching: Watching, tmp_path: Path) -> None:
    watch = watching({tmp_path: lambda _: True})
    for number in range(MOST_QUEUED // 2 + 1):
        (tmp_path / f"{number}").touch()  # made, and written: two events, and the queue keeps no two alike
    assert await woken(watch)


async def test_many_changes_one_after_the_other_wake_once_until_there_is_a_pause(
    watching: Watching, tmp_path: Path
) -> None:
    watch = watching({tmp_path: None})
    waiting = asyncio.create_task(watch.wait())
    for number in range(5):
        (tmp_path / f"{number}").touch()
        await asyncio.sleep(0)
    assert await waiting
    waiting = asyncio.create_task(watch.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    watch.close()
    assert not await waiting


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
