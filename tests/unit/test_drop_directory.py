"""The door of a drop directory whose directory comes late, goes, or is replaced, and its end."""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from structlog.testing import capture_logs

from agent.core.config.host import Drop as Settings
from agent.doors.drop.directory import DropDirectory
from agent.doors.ports import App
from agent.host.clock import SystemClock
from agent.host.storage.disk import Disk
from pusher.wire import Code, Refused
from tests.dropping import until

NAME = "x.tar.zst"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "drop").mkdir()
    return tmp_path / "drop/flask-demo"


@pytest.fixture
async def door(path: Path) -> AsyncIterator[DropDirectory]:
    """A door that makes no directory. Nothing in the tests is good enough for its app to be asked."""
    one = DropDirectory(
        cast("App", SimpleNamespace(name="flask-demo")),
        path=path,
        disk=Disk(),
        clock=SystemClock(),
        settings=Settings(rescan_s=3600),
        make=False,
    )
    yield one
    await one.stop()


def drop(path: Path) -> None:
    """Drop a file that is no bundle: its result says that it waits for the rest."""
    (path / NAME).write_bytes(b"nothing good")


def scanned(path: Path) -> Callable[[], bool]:
    return (path / f"{NAME}.result.json").exists


async def test_a_directory_that_comes_late_is_served_from_then_on(door: DropDirectory, path: Path) -> None:
    with capture_logs() as logs:
        await door.start()
        with pytest.raises(Refused) as caught:
            await door.scan()
        os.mkdir(path)
        drop(path)
        await until(scanned(path))
        await door.scan()
    assert caught.value.code is Code.CONFIGURATION
    assert [one["event"] for one in logs if one["event"] not in ("drop_result", "refused")] == [
        "drop_not_open",
        "drop_reopened",
    ]


async def test_a_directory_that_is_removed_and_made_again_is_served_again(door: DropDirectory, path: Path) -> None:
    os.mkdir(path)
    await door.start()
    for _ in range(3):
        drop(path)
        await until(scanned(path))
        await asyncio.to_thread(shutil.rmtree, path)
        os.mkdir(path)


async def test_a_directory_that_is_replaced_is_served_and_the_old_one_is_left_alone(
    door: DropDirectory, path: Path
) -> None:
    os.mkdir(path)
    await door.start()
    drop(path)
    await until(scanned(path))
    os.rename(path, path.with_name("old"))
    os.mkdir(path)
    drop(path)
    await until(scanned(path))
    os.unlink(path.with_name("old") / NAME)
    os.unlink(path / NAME)
    await until(lambda: not scanned(path)())
    assert scanned(path.with_name("old"))()


async def test_a_link_in_the_place_of_the_directory_is_not_followed(
    door: DropDirectory, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    os.symlink(tmp_path / "other", path)
    with capture_logs() as logs:
        await door.start()
    assert [one["event"] for one in logs] == ["drop_not_open"]
    drop(tmp_path / "other")
    os.unlink(path)
    os.mkdir(path)
    drop(path)
    await until(scanned(path))
    assert not scanned(tmp_path / "other")()


async def test_a_door_that_stopped_scans_no_more_and_leaves_nothing_open(door: DropDirectory, path: Path) -> None:
    os.mkdir(path)
    before = held(path)  # a watch of an earlier test may end meanwhile
    await door.start()
    drop(path)
    await until(scanned(path))
    await door.stop()
    await until(lambda: not held(path) - before)
    with pytest.raises(Refused):
        await door.scan()


def held(path: Path) -> Counter[str]:
    """What is open of the drop directory, and what watches: others in this process open files of their own."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return Counter(one for one in found if "inotify" in one or one.startswith(str(path)))
