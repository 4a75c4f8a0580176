"""Cuts the power of a real ext4 filesystem in the middle of deployments, in a mount namespace of its own.

    unshare --mount python -m tests.crash.power FOLDER UV_CACHE EVERY [WITHOUT]

In a namespace that others share, one that is made meanwhile (a container's) would keep the stopped filesystem in
use, and mounting it again would give the same one. Writes what is wrong after the cuts, and the number of them.
"""

import asyncio
import contextlib
import fcntl
import json
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.host.storage.disk import Disk
from agent.machine import Machine
from tests.crash.aftermath import SETTINGS, files, state_after_start, wrong
from tests.crash.simulated_service import SimulatedService
from tests.host import APP, Host, running

SHUTDOWN, WITHOUT_JOURNAL = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH (fs/ext4/ext4.h)
SIZE = 48 * 1024**2
FORKS = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Cut:
    """Where a process cuts the power while it deploys: at this change, or at the end if that is 0."""

    top: Path
    data: bytes
    at: int
    without: str = ""


def main(folder: Path, uv_cache: Path, every: int, without: str = "") -> None:
    """Deploy v1 and v2, then v3 many times: once cut at the end, and once at each n-th change (`every`)."""
    image, top = folder / "image", folder / "top"
    for name in (top, folder / "venvs"):
        name.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(("mkfs.ext4", "-q", "-F", image), check=True)
    with mounted(image, top):
        host = Host(
            top / "root", uv_cache=uv_cache, venvs=folder / "venvs", machine=Machine(embedded=SimulatedService)
        )
        host.add_app(APP, **SETTINGS)
        asyncio.run(_first(host))
        data = host.bundle(files("v3"), "v3")
    found = [cut_off(host, Cut(top, data, 0, without))]
    changes = len((folder / "ops").read_text().split())
    if not without:
        found += [cut_off(host, Cut(top, data, at)) for at in range(1, changes + 1, every)]
    print(json.dumps({"cuts": len(found), "changes": changes, "wrong": [one for one in found if one]}))


def cut_off(host: Host, what: Cut) -> str:
    """Deploy v3 on a copy and cut the power; mount it again and start an agent twice; what is wrong then."""
    image = what.top.parent / "copy"
    subprocess.run(("cp", "--sparse=always", what.top.parent / "image", image), check=True)
    with mounted(image, what.top):
        process = FORKS.Process(target=deploy, args=(host, what))
        process.start()
        process.join(30)
        if process.exitcode != -signal.SIGKILL:
            raise AssertionError(f"the power did not go at {what.at}: {process.exitcode}")
    with mounted(image, what.top):
        found = [asyncio.run(state_after_start(host.moved(host.root))) for _ in range(2)]
    once_more = "" if found[0] == found[1] else f"change {what.at}: {found[0]}, and once more {found[1]}"
    return wrong(found[0], f"change {what.at}") or once_more


class CuttingDisk(Disk):
    """Cuts the power of the filesystem, and of this process, at its n-th change. Leaves out one flush."""

    def __init__(self, what: Cut) -> None:
        super().__init__()
        self.ops: list[str] = []
        self._what = what

    def sync_tree(self, path: Path, *, op: str) -> None:
        if op != self._what.without:
            super().sync_tree(path, op=op)

    def _at(self, op: str) -> None:
        self.ops.append(op)
        if len(self.ops) == self._what.at:
            cut(self._what.top)


def stop(top: Path) -> None:
    """From now on nothing reaches the disk any more."""
    descriptor = os.open(top, os.O_RDONLY)
    fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_JOURNAL))
    os.close(descriptor)


def cut(top: Path) -> None:
    """Cut the power: nothing reaches the disk any more, and this process ends."""
    stop(top)
    os.kill(os.getpid(), signal.SIGKILL)


def deploy(host: Host, what: Cut) -> None:
    """In a process of its own: deploy until the power goes."""
    asyncio.run(_deploy(host, what))


async def _deploy(host: Host, what: Cut) -> None:
    disk = CuttingDisk(what)
    async with running(host.moved(host.root, machine=Machine(disk=disk, embedded=SimulatedService))) as host:
        status, answer = await host.post(what.data)
        assert status == 200, answer
        ops = Path(what.top.parent, "ops")
        await asyncio.to_thread(ops.write_text, "\n".join(disk.ops))
        cut(what.top)


@contextlib.contextmanager
def mounted(image: Path, at: Path) -> Iterator[None]:
    subprocess.run(("mount", "-o", "loop", image, at), check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(("umount", at), check=True, capture_output=True)


async def _first(host: Host) -> None:
    async with running(host):
        for version in ("v1", "v2"):
            await host.deploy(files(version), version)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
