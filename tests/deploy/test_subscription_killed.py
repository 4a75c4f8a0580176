"""`kill -9` of a whole agent while it fetches, while it marks a document, while it reports: nothing is lost.

Each agent is a process of its own; the next one goes on from what it left.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.assembly import Machine
from agent.host.channel.identity import Identity
from agent.host.storage.database import Database
from agent.host.storage.disk import Disk
from pusher.fleet.host_key import is_signed, public_bytes
from pusher.wire.channel import channel_name, report_name, split_signed
from pusher.wire.report import REPORT_BYTES, Report
from tests.dying import Dying, DyingDisk, DyingLater
from tests.host import APP, Host, running, wsgi
from tests.publishing import CHANNEL, EagerClock, Publisher
from tests.stalling_web import Web, stalling_web

FORKS = multiprocessing.get_context("fork")
DOCUMENT = channel_name(APP, CHANNEL)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with stalling_web(tmp_path / "repo") as server:
        yield server


@pytest.fixture
def publisher(host_off: Host, web: Web) -> Publisher:
    made = Publisher(web.folder, key=host_off.key)
    made.subscribe(host_off, f"http://127.0.0.1:{web.server_port}", notify="")
    return made


def serve(host: Host, database: type[Database]) -> None:
    """In a process of its own: run the agent for ever."""

    async def run() -> None:
        machine = Machine(clock=EagerClock(), database=database)
        async with running(host.moved(host.root, machine=machine)):
            await asyncio.Event().wait()

    asyncio.run(run())


@contextmanager
def agent(host: Host, *, database: type[Database] = Database) -> Iterator[Any]:
    """An agent in a process of its own; at the end of the block it is killed, if it is not dead already."""
    process = FORKS.Process(target=serve, args=(host, database))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def channel(host: Host) -> dict[str, Any]:
    """The subscription, as the status of the agent has it; empty while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{host.door}/apps/{APP}/status", timeout=5) as answer:
            return dict(json.loads(answer.read())["channel"])
    except OSError:
        return {}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_current(host: Host, version: str) -> bool:
    found = channel(host)
    return found.get("state") == "current" and found["wanted"]["version"] == version


def test_an_agent_that_is_killed_while_it_fetches_goes_on_where_it_was(
    host_off: Host, web: Web, publisher: Publisher
) -> None:
    publisher.name(publisher.put(wsgi("v1") | {"large.txt": os.urandom(2_000_000).hex()}, "v1"))
    web.stalls = ("GET", "bundles/")
    for _ in range(2):
        with agent(host_off):
            assert web.reached.wait(60)
            # What it has received is on its disk before it is killed.
            until(lambda: any(one.stat().st_size > 100_000 for one in host_off.layout.fetched(APP).iterdir()))
        web.reached.clear()
    web.stalls = ("", "")
    with agent(host_off):
        until(lambda: is_current(host_off, "v1"))
    begun = [int(begin[6:-1] or 0) for name, begin in web.asked if name.startswith("bundles/") and begin]
    assert begun == sorted(begun)
    assert begun[0] > 100_000
    assert not list(host_off.layout.fetched(APP).iterdir())


@pytest.mark.parametrize("database", [Dying, DyingLater])
def test_an_agent_that_is_killed_while_it_marks_a_document_follows_none_that_is_older(
    host_off: Host, web: Web, publisher: Publisher, database: type[Dying]
) -> None:
    publisher.name(publisher.put(wsgi("v1"), "v1"))
    with agent(host_off):
        until(lambda: is_current(host_off, "v1"))
    older = (web.folder / DOCUMENT).read_bytes()
    publisher.name(publisher.put(wsgi("v2"), "v2"))
    newer = (web.folder / DOCUMENT).read_bytes()
    with agent(host_off, database=database) as process:
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    (web.folder / DOCUMENT).write_bytes(older)
    with agent(host_off):
        if database.durable:
            until(lambda: channel(host_off).get("state") == "refused")
            assert channel(host_off)["problem"]["code"] == "older_than_accepted"
        else:
            until(lambda: is_current(host_off, "v1"))
        (web.folder / DOCUMENT).write_bytes(newer)
        until(lambda: is_current(host_off, "v2"))


def test_an_agent_that_is_killed_while_it_reports_reports_once_more(
    host_off: Host, web: Web, publisher: Publisher
) -> None:
    name = report_name(APP, "web1")
    publisher.name(publisher.put(wsgi("v1"), "v1"))
    web.stalls = ("PUT", "reports/")
    with agent(host_off):
        assert web.reached.wait(60)
    [name] = web.reports
    web.reports.clear()
    web.stalls = ("", "")
    with agent(host_off):
        until(lambda: is_current(host_off, "v1"))
        until(lambda: name in web.reports and is_report(host_off, web.reports[name], state="current"))


def is_report(host: Host, content: bytes, *, state: str) -> bool:
    """Whether the host has signed it, and it says this."""
    document, signature = split_signed(content, most=REPORT_BYTES)
    line = host.layout.identity.with_name("identity.pub").read_text()
    assert is_signed(document, signature, key=public_bytes(line.split()[1]))
    return Report.from_bytes(document).state == state


def test_a_host_whose_agent_is_killed_while_it_makes_its_key_has_a_whole_one_afterwards(tmp_path: Path) -> None:
    killed = 0
    for at in range(1, 100):
        folder = tmp_path / str(at)
        folder.mkdir()
        identity = Identity(folder / "identity", host="web1", disk=DyingDisk(at))
        process = FORKS.Process(target=identity.ensure)
        process.start()
        process.join(30)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        killed += 1
        again = Identity(folder / "identity", host="web1", disk=Disk())
        again.ensure()
        key = public_bytes(again.public().split()[1])
        assert is_signed(b"{}", again.sign(b"{}"), key=key)
        assert again.public().split()[0] == "ssh-ed25519"
        assert sorted(one.name for one in folder.iterdir()) == ["identity", "identity.pub"]
    assert killed > 8
