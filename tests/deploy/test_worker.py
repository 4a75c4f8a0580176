"""One worker of the embedded default, alone: it never runs twice, and it comes back whatever its end leaves."""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.core.config.app import AppConfig
from agent.core.processes import instances
from agent.host.embedded.worker import Worker
from agent.host.ports import Placed
from tests.deploy.embedded_place import ME, Impatient, Place, alive, until
from tests.runs import say_run

WORKS = """
import os, sys, time
with open(os.environ["STARTS"], "a") as file:
    print(os.getpid(), file=file)
time.sleep(600)
"""


class One:
    """A worker that writes the process id of each of its starts into `starts`."""

    def __init__(self, place: Place) -> None:
        self.starts = place.root / "starts"
        (place.root / "environment").write_text(f"STARTS={self.starts}\n")
        config = AppConfig.model_validate(
            {
                "path": "/opt/demo",
                "user": ME,
                "environment_file": "/environment",
                "processes": {"worker": {"start": "python worker.py", "drain_s": 0.1}},
            }
        )
        folder = place.host.run / "demo/processes"
        folder.mkdir(parents=True)
        self.folder, self.clock = folder, Impatient()
        (instance,) = instances(config)
        self.worker = Worker(
            "demo", instance, config, host=place.host, clock=self.clock, folder=folder, hear=lambda _: None
        )
        self.release = place.release("v1")
        run = say_run(self.release.path, "python app.py", processes={"worker": {"start": ("python", "worker.py")}})
        (self.release.path / "worker.py").write_text(WORKS)
        self.placed = Placed(self.release.release, "v1", self.release.path, run)
        place.current.symlink_to(self.release.path)

    def pids(self) -> list[int]:
        return [int(one) for one in self.starts.read_text().split()] if self.starts.exists() else []

    def living(self) -> list[int]:
        return [one for one in self.pids() if alive(one)]


def runners() -> list[int]:
    """The children of this process that are, or become, a runner."""
    found = []
    for one in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):
            if b"runner.py" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(int(one))
    return found


async def held_up(fifo: Path) -> int:
    """Wait until somebody reads the FIFO, who then waits for what is written to this descriptor."""
    async with asyncio.timeout(10):
        while True:
            with suppress(OSError):
                return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            await asyncio.sleep(0.005)


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[One]:
    one = One(Place(tmp_path))
    yield one
    await one.worker.end()
    for pid in one.living():
        os.kill(pid, signal.SIGKILL)


async def test_a_worker_that_is_ended_while_it_starts_again_does_not_run(one: One) -> None:
    main = await one.worker.run(one.placed)
    await until(one.living)
    commands = one.placed.path / ".pusher/start"
    said = commands.read_bytes()
    commands.unlink()
    os.mkfifo(commands)  # the next runner stops here
    os.kill(one.living()[0], signal.SIGKILL)
    await main.wait()
    writing = await held_up(commands)
    await one.worker.end()
    assert runners() == []
    os.close(writing)
    commands.unlink()
    commands.write_bytes(said)
    await one.worker.run(one.placed)
    await until(one.living)
    assert len(one.living()) == 1


async def test_a_worker_comes_back_although_its_record_cannot_be_removed(one: One) -> None:
    main = await one.worker.run(one.placed)
    await until(one.living)
    for record in one.folder.iterdir():
        record.unlink()
        record.mkdir()  # as on a disk with errors: it cannot be unlinked
    os.kill(one.living()[0], signal.SIGKILL)
    await main.wait()
    await until(one.living)


async def test_a_worker_comes_back_when_there_were_no_descriptors_for_a_while(one: One) -> None:
    await one.worker.run(one.placed)
    await until(one.living)
    pid, limits = one.living()[0], resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        os.kill(pid, signal.SIGKILL)
        await until(lambda: len(one.clock.pauses) > 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    await until(one.living)
    assert one.worker.state().running
