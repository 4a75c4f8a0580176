"""Cuts the power of a real ext4 filesystem while an agent fetches what its channel names, marks, or reports.

    unshare --mount python -m tests.crash.subscribed_power FOLDER UV_CACHE [unflushed]

The repository is on another machine: its server is in this process, and loses nothing. Writes what is wrong after
each cut, by its name. `unflushed`: the journal is not flushed, which must be noticed.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.host.channel.identity import Identity
from agent.host.storage.database import Database
from agent.host.storage.disk import Disk
from agent.machine import Machine
from pusher.fleet.host_key import is_signed, public_bytes
from pusher.wire import WireError
from pusher.wire.channel import channel_name, report_name, split_signed
from pusher.wire.report import REPORT_BYTES, Report
from tests.crash.aftermath import SETTINGS, files, state_of, wrong
from tests.crash.power import FORKS, SIZE, cut, mounted, stop
from tests.crash.simulated_service import SimulatedService
from tests.dying import Dying, DyingDisk
from tests.host import APP, Host, running
from tests.publishing import CHANNEL, POLL_S, EagerClock, Publisher
from tests.stalling_web import Web, stalling_web

DOCUMENT, REPORT = channel_name(APP, CHANNEL), report_name(APP, "web1")
LIMIT_S = 30.0
Made = tuple[bytes, bytes]
"""The channel document for v2, and that for v3."""


class Cuts:
    """A host that follows v2, a repository with v3, and what is done to a copy of the host's disk."""

    def __init__(self, folder: Path, host: Host, web: Web, documents: Made, *, unflushed: bool) -> None:
        self.top = folder / "top"
        self._folder = folder
        self._host = host
        self._web = web
        self._older, self._newer = documents
        self._database = unflushed_database() if unflushed else Database

    def while_it_fetches(self, part: float, *, flushed: bool) -> str:
        """The power goes when so much of a bundle has arrived; with `flushed`, that is on the disk by then."""
        self._web.part, self._web.stalls = part, ("GET", "bundles/")
        with self._disk():
            process = self._start()
            self._reached()
            if flushed:
                until(lambda: any(one.stat().st_size for one in self._host.layout.fetched(APP).glob("*")))
                subprocess.run(("sync", "--file-system", self.top), check=True)
            stop(self.top)
            process.kill()
            process.join()
        return self._after()

    def while_it_reports(self, *, first: bool) -> str:
        """The power goes while a report is on its way: an agent's `first` one ever, or that of v3."""
        with self._disk():
            if first:
                for path in self._host.layout.identity.parent.glob(f"{self._host.layout.identity.name}*"):
                    path.unlink()
                subprocess.run(("sync", "--file-system", self.top), check=True)
            self._web.stalls = ("PUT", REPORT)
            process = self._start()
            self._reached()
            key = self._key()
            stop(self.top)
            process.kill()
            process.join()
        found = self._after()
        with mounted(self._copy, self.top):
            return found or ("" if self._key() == key else "the host has another key than it has reported with")

    def while_it_marks(self, *, durable: bool) -> str:
        """The power goes when the document for v3 is marked. Then the repository has the one for v2 again."""
        with self._disk():
            process = self._start(database=cutting_database(self.top, self._database, durable=durable))
            process.join(LIMIT_S)
            if process.exitcode != -signal.SIGKILL:
                raise AssertionError(f"the power did not go: {process.exitcode}")
        (self._web.folder / DOCUMENT).write_bytes(self._older)
        with mounted(self._copy, self.top):
            found = asyncio.run(self._follow(lambda channel: channel["state"] in ("refused", "current")))
        state, code = found["state"], (found["problem"] or {}).get("code")
        if durable and (state, code) != ("refused", "older_than_accepted"):
            return f"what was marked is forgotten: {state} {code}"
        if not durable and state != "current":
            return f"what was not marked is known: {state} {code}"
        return self._after()

    def while_it_makes_its_key(self) -> str:
        """The power goes at each change in turn. A key that is there is whole."""
        for at in range(1, 100):
            with self._disk():
                folder = self.top / "key"
                folder.mkdir()
                subprocess.run(("sync", "--file-system", self.top), check=True)
                disk = DyingDisk(at, lambda: cut(self.top))
                process = FORKS.Process(target=Identity(folder / "id", host="web1", disk=disk).ensure)
                process.start()
                process.join(LIMIT_S)
                if process.exitcode == 0:
                    return "" if at > 5 else f"only {at} changes"
            with mounted(self._copy, self.top):
                again = Identity(folder / "id", host="web1", disk=Disk())
                again.ensure()
                if not is_signed(b"{}", again.sign(b"{}"), key=public_bytes(again.public().split()[1])):
                    return f"change {at}: the key does not fit"
        return "it never ends"

    @property
    def _copy(self) -> Path:
        return self._folder / "copy"

    def _disk(self) -> Any:
        """A copy of the host's disk, mounted; the repository names v3."""
        self._web.reached.clear()
        self._web.reports.clear()
        (self._web.folder / DOCUMENT).write_bytes(self._newer)
        subprocess.run(("cp", "--sparse=always", self._folder / "image", self._copy), check=True)
        return mounted(self._copy, self.top)

    def _start(self, database: type[Database] | None = None) -> Any:
        """An agent in a process of its own."""
        process = FORKS.Process(target=serve, args=(self._host, database or self._database))
        process.start()
        return process

    def _reached(self) -> None:
        if not self._web.reached.wait(LIMIT_S):
            raise AssertionError("it was not asked")

    def _after(self) -> str:
        """What is wrong once the power is back, and with it the repository."""
        self._web.stalls = ("", "")
        (self._web.folder / DOCUMENT).write_bytes(self._newer)
        with mounted(self._copy, self.top):
            asyncio.run(self._follow(lambda channel: is_current(channel) and self._is_reported()))
            status, listing = asyncio.run(self._state())
            if [*self._host.layout.fetched(APP).glob("*")]:
                return "what was fetched is left"
            return wrong(state_of(self._host.moved(self._host.root), status, listing), "the end")

    async def _follow(self, end: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Run an agent until its subscription shows this; what it shows."""
        machine = Machine(clock=EagerClock(), embedded=SimulatedService)
        async with running(self._host.moved(self._host.root, machine=machine)) as host, asyncio.timeout(LIMIT_S):
            while True:
                _, status = await host.request("GET", "/status")
                if end(status["channel"]):
                    return dict(status["channel"])
                await asyncio.sleep(0.05)

    async def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        machine = Machine(clock=EagerClock(), embedded=SimulatedService)
        async with running(self._host.moved(self._host.root, machine=machine)) as host:
            return (await host.request("GET", "/status"))[1], (await host.request("GET", "/releases"))[1]

    def _is_reported(self) -> bool:
        """Whether the host has reported that v3 is current, with its key."""
        try:
            document, signature = split_signed(self._web.reports.get(REPORT, b""), most=REPORT_BYTES)
        except WireError:
            return False
        key = public_bytes(self._key().split()[1])
        return is_signed(document, signature, key=key) and Report.from_bytes(document).state == "current"

    def _key(self) -> str:
        return self._host.layout.identity.with_name("identity.pub").read_text()


def serve(host: Host, database: type[Database]) -> None:
    """In a process of its own: run the agent until it ends."""

    async def run() -> None:
        machine = Machine(clock=EagerClock(), database=database, embedded=SimulatedService)
        async with running(host.moved(host.root, machine=machine)):
            await asyncio.Event().wait()

    asyncio.run(run())


def unflushed_database() -> type[Database]:
    """A journal that leaves it to the kernel when a change reaches the disk."""

    class Unflushed(Database):
        async def open(self) -> None:
            await super().open()
            await self.read("pragma synchronous = off", ())

    return Unflushed


def cutting_database(top: Path, base: type[Database], *, durable: bool) -> type[Database]:
    """A journal that cuts the power when a mark has been written: before, or after it is `durable`."""
    return type("Cutting", (Dying, base), {"durable": durable, "end": staticmethod(lambda: cut(top))})


def is_current(channel: dict[str, Any]) -> bool:
    return channel["state"] == "current" and channel["wanted"]["version"] == "v3"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it never happened")
        time.sleep(0.01)


def main(folder: Path, uv_cache: Path, *, unflushed: bool) -> None:
    """Let a host follow its channel to v2. On its way to v3, cut the power of copies of its disk."""
    image, top = folder / "image", folder / "top"
    for name in (top, folder / "venvs", folder / "repo"):
        name.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(("mkfs.ext4", "-q", "-F", image), check=True)
    with stalling_web(folder / "repo") as web:
        with mounted(image, top):
            host = Host(top / "root", uv_cache=uv_cache, venvs=folder / "venvs")
            publisher = Publisher(web.folder, key=host.key)
            publisher.trust(host.layout.allowed_signers)
            where = {"repository": [f"http://127.0.0.1:{web.server_port}"], "poll_s": POLL_S, "notify": ""}
            host.add_app(APP, **SETTINGS, **{f"subscribe__{key}": value for key, value in where.items()})
            documents = asyncio.run(followed(host, publisher, web))
            cuts = Cuts(folder, host, web, documents, unflushed=unflushed)
        found = {"marking, and it was durable": cuts.while_it_marks(durable=True)}
        if not unflushed:
            found |= {
                "marking": cuts.while_it_marks(durable=False),
                "fetching, at its begin": cuts.while_it_fetches(0.0, flushed=False),
                "fetching, in the middle": cuts.while_it_fetches(0.5, flushed=False),
                "fetching, with half of it on the disk": cuts.while_it_fetches(0.5, flushed=True),
                "fetching, near its end": cuts.while_it_fetches(0.99, flushed=True),
                "reporting": cuts.while_it_reports(first=False),
                "reporting for the first time": cuts.while_it_reports(first=True),
                "making its key": cuts.while_it_makes_its_key(),
            }
    print(json.dumps({name: problem for name, problem in found.items() if problem}))


async def followed(host: Host, publisher: Publisher, web: Web) -> Made:
    """Publish v1, v2 and v3; the host is at v2, with its reports sent."""
    machine = Machine(clock=EagerClock(), embedded=SimulatedService)
    async with running(host.moved(host.root, machine=machine)) as agent, asyncio.timeout(LIMIT_S):
        for version in ("v1", "v2"):
            await publisher.publish(files(version), version)
            while True:
                _, status = await agent.request("GET", "/status")
                channel = status["channel"]
                if channel["state"] == "current" and channel["wanted"]["version"] == version:
                    break
                await asyncio.sleep(0.05)
    older = await asyncio.to_thread((web.folder / DOCUMENT).read_bytes)
    large = {"large.txt": os.urandom(1_000_000).hex()}
    await publisher.publish(files("v3") | large, "v3")
    return older, await asyncio.to_thread((web.folder / DOCUMENT).read_bytes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), unflushed=sys.argv[3:] == ["unflushed"])
