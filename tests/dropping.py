"""Dropping into the drop directory of a host in the test's loop, with real files and the real rsync."""

import asyncio
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.drop import FIRST_PAUSE_S, LONGEST_PAUSE_S
from agent.host.clock import SystemClock
from pusher.bundle import sign
from pusher.bundle.tree import read_tree
from pusher.wire import DROP_INDEX, DROP_MANIFEST, DROP_SIGNATURE, File, Manifest
from tests.host import APP, MONTH_MS, Host

RSYNC = ("rsync", "-rlp", "--checksum", "--chmod=D2775,F664", "--stats", "--no-human-readable")
DEADLINE_S = 30.0


@dataclass(frozen=True)
class Load:
    """A signed version: its folder, and the files that belong beside it."""

    folder: Path
    manifest: bytes
    signature: bytes
    index: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()

    def put_manifest(self, where: Path) -> None:
        """Write manifest, signature and index, each whole."""
        for name, content in self.named().items():
            put(where / name, content)

    def named(self) -> dict[str, bytes]:
        return {DROP_INDEX: self.index, DROP_SIGNATURE: self.signature, DROP_MANIFEST: self.manifest}


_created = 0


def load(host: Host, source: Mapping[str, str], version: str, *, key: Path | None = None, **members: Any) -> Load:
    """Sign a version; `members` replace those of its manifest, and `index` that of the tree."""
    global _created
    folder = host.write(f"{version}-{time.monotonic_ns()}", source)
    tree = read_tree(folder)
    index = members.pop("index", tree.index)
    _created = max(int(time.time() * 1000), _created + 1)
    manifest = Manifest(
        **{
            "app": APP,
            "version": version,
            "created": _created,
            "expires": _created + MONTH_MS,
            "index_sha256": hashlib.sha256(index).hexdigest(),
            "index_size": len(index),
            "files": len(tree.entries),
            "unpacked_size": sum(entry.size for entry in tree.entries if isinstance(entry, File)),
        }
        | members
    ).to_bytes()
    return Load(folder, manifest, sign.sign(manifest, key=str(key or host.key)), index)


def put(path: Path, content: bytes) -> None:
    """A file that appears whole, as rsync's do."""
    aside = path.with_name(f".{path.name}.aside")
    aside.write_bytes(content)
    aside.replace(path)


def rsync(source: Path | str, target: Path | str, *options: str) -> str:
    """Run rsync as the documentation says; returns its output."""
    argv = (*RSYNC, *options, str(source), str(target))
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def drop_folder(host: Host, one: Load) -> None:
    """The folder by rsync, and then the files beside it."""
    where = host.layout.drop(APP)
    rsync(f"{one.folder}/", f"{where}/tree/", "--delete")
    one.put_manifest(where)


def result(host: Host, name: str = "tree") -> dict[str, Any]:
    """The result beside a drop; empty without one."""
    try:
        text = (host.layout.drop(APP) / f"{name}.result.json").read_text()
    except (FileNotFoundError, ValueError):
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}  # by a test
    return found if isinstance(found, dict) else {}


class Patience(SystemClock):
    """A clock on which the pauses between scans end when a test says so. `pausing` are those under way, `begun`
    counts them."""

    def __init__(self) -> None:
        self.begun = 0
        self.pausing: dict[float, asyncio.Event] = {}

    async def sleep(self, seconds: float) -> None:
        if seconds not in (FIRST_PAUSE_S, 10, 20, 40, LONGEST_PAUSE_S):
            return await super().sleep(seconds)
        self.begun += 1
        self.pausing[seconds] = asyncio.Event()
        try:
            await self.pausing[seconds].wait()
        finally:
            del self.pausing[seconds]

    async def end(self, seconds: float) -> None:
        """Wait until a pause of this length has begun, and end it."""
        await until(lambda: seconds in self.pausing)
        assert list(self.pausing) == [seconds]
        self.pausing[seconds].set()


async def until(true: Callable[[], Any], *, deadline_s: float = DEADLINE_S) -> Any:
    """Wait until it is true; returns its value."""
    async with asyncio.timeout(deadline_s):
        while not (found := await asyncio.to_thread(true)):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
    return found


async def await_result(host: Host, name: str = "tree", *, state: str = "", manifest: str = "") -> dict[str, Any]:
    """The result beside a drop, once it has this state and this manifest."""
    try:
        found: dict[str, Any] = await until(
            lambda: (
                (found := result(host, name))
                and found["state"] == (state or found["state"])
                and (state or found["state"] != "waiting")
                and found.get("manifest", "") == (manifest or found.get("manifest", ""))
                and found
            )
        )
    except TimeoutError:
        lying = sorted(os.listdir(host.layout.drop(APP)))
        raise AssertionError(f"no {state} of {name}; there are {lying}: {result(host, name)}") from None
    return found
