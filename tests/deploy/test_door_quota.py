"""The door under many callers: who is turned away, with which answer, and who is served meanwhile."""

import asyncio
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.doors.http.quota import ConnectionQuota, TooMany
from agent.host.log.notify import Notifier
from tests.deploy.simulated_agent import until
from tests.deploy.visitor import Visitor, visiting

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
STRANGERS = range(12_000, 12_020)


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def quota(time: Time, *, each: int = 64, others: int = 256, rate: float = 50, burst: int = 100) -> ConnectionQuota:
    return ConnectionQuota(each=each, others=others, rate=rate, burst=burst, elapsed=time)


def test_strangers_together_never_hold_more_than_their_share_and_operators_get_in():
    one, refused = quota(Time()), []
    for uid in STRANGERS:
        for _ in range(64):
            try:
                one.take(uid, operator=False)
            except TooMany as problem:
                refused.append(problem.status)
    assert (len(refused), set(refused)) == (1_280 - 256, {503})
    for _ in range(64):
        one.take(0, operator=True)
    with pytest.raises(TooMany, match="no more") as caught:
        one.take(0, operator=True)
    assert (caught.value.status, caught.value.why) == (429, "uid 0 has 64 open")


def test_a_closed_connection_makes_room_once():
    one = quota(Time(), each=1, others=1)
    release = one.take(12_345, operator=False)
    release()
    release()
    one.take(12_345, operator=False)
    with pytest.raises(TooMany):
        one.take(12_346, operator=False)


def test_a_user_opens_so_many_connections_in_a_second_and_no_more():
    time = Time()
    one = quota(time, rate=50, burst=100)

    refused = []

    def served(count: int, uid: int = 12_345, *, operator: bool = False) -> int:
        done = 0
        for _ in range(count):
            try:
                one.take(uid, operator=operator)()
                done += 1
            except TooMany as problem:
                refused.append((problem.status, problem.why))
        return done

    assert served(1_000) == 100
    time.now += 1
    assert served(1_000) == 50
    assert set(refused) == {(429, "uid 12345 may open 50 in a second")}
    assert served(10, 12_346) == 10
    assert served(1_000, 0, operator=True) == 1_000
    time.now += 3_600
    assert served(1_000) == 100


HOLD = """
import socket, sys, os
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
host, _, port = sys.argv[1].rpartition(":")
held = [socket.create_connection((host, int(port))) for _ in range(int(sys.argv[3]))]
print("ready", flush=True)
sys.stdin.readline()
answers = []
for one in held:
    one.setblocking(False)
    try:
        answers.append(one.recv(12)[9:12].decode())
    except BlockingIOError:
        answers.append("open")
print(*answers, flush=True)
"""


@contextmanager
def callers(at: Visitor, *uids: int, each: int) -> Iterator[list["subprocess.Popen[str]"]]:
    argv = [sys.executable, "-IS", "-c", HOLD, at.door.address]
    people = [
        subprocess.Popen([*argv, str(uid), str(each)], stdin=-1, stdout=-1, text=True, cwd="/") for uid in uids
    ]
    try:
        yield people
    finally:
        for one in people:
            one.kill()
            one.wait()
            assert one.stdin
            assert one.stdout
            one.stdin.close()
            one.stdout.close()


def refusals(logs: list[Any]) -> int:
    return sum(entry["event"] == "connection_refused" for entry in logs)


@as_root
@pytest.mark.root
async def test_idle_connections_of_many_users_leave_operators_their_share():
    """1,280 of them used up the descriptors of the agent."""
    async with visiting("shop", connections_others=20, connections_each=16, withheld_s=0) as at:
        with capture_logs() as logs, callers(at, *STRANGERS[:4], each=16) as people:
            for one in people:
                assert await asyncio.to_thread(one.stdout.readline) == "ready\n"
            await until(lambda: refusals(logs) == 44)
            assert (await at.curl("/status")).status == 200
            stranger = await at.curl("/healthz", uid=12_345)
            assert (stranger.status, stranger.json["code"]) == (503, "busy")
            assert "the rest is for operators" in stranger.json["detail"]
            answers: list[str] = []
            for one in people:
                out, _ = await asyncio.to_thread(one.communicate, "\n")
                answers += out.split()
            assert (answers.count("open"), answers.count("503")) == (20, 44)
        await until(lambda: at.door.connections == 0)
        assert (await at.curl("/healthz", uid=12_345)).status == 200


async def test_connections_that_bring_nothing_are_not_taken():
    """A thousand of them, refused again and again, kept operators waiting."""
    async with visiting("shop", connections_each=2) as at:
        held = [await at.connect() for _ in range(50)]
        assert (await at.curl("/healthz")).status == 200
        await until(lambda: at.door.connections == 0)
        reader, writer = held[-1]
        writer.write(at.head("GET /healthz"))
        assert b" 200 " in await reader.readline()
        assert at.door.connections == 1
        for _, writer in held:
            writer.close()


async def test_a_connection_that_brings_nothing_for_long_is_taken_and_closed():
    async with visiting("shop", withheld_s=1, idle_s=0.1) as at:
        reader, writer = await at.connect()
        assert await reader.read() == b""
        writer.close()


@as_root
@pytest.mark.root
async def test_a_flood_of_one_user_is_turned_away_and_others_are_served():
    async with visiting("shop", rate_each=0.001, burst_each=3) as at:
        found = [(await at.curl("/healthz", uid=12_345)).status for _ in range(6)]
        assert found == [200, 200, 200, 429, 429, 429]
        assert (await at.curl("/healthz", uid=12_346)).status == 200
        assert [(await at.curl("/healthz")).status for _ in range(6)] == [200] * 6


@as_root
@pytest.mark.root
async def test_others_never_get_more_than_a_quarter_of_the_descriptors():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        async with visiting("shop", connections_each=100, withheld_s=0) as at:
            with capture_logs() as logs, callers(at, 12_345, each=70) as (one,):
                assert await asyncio.to_thread(one.stdout.readline) == "ready\n"
                await until(lambda: refusals(logs) == 6)
                out, _ = await asyncio.to_thread(one.communicate, "\n")
                assert (out.split().count("open"), out.split().count("503")) == (64, 6)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class ShortWaits:
    """A clock on which a wait is over at once, so often, and then never."""

    def __init__(self, times: int) -> None:
        self.left = times

    def now(self) -> int:
        return 0

    def elapsed(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.left -= 1
        await (asyncio.sleep(0) if self.left >= 0 else asyncio.Event().wait())


@pytest.mark.parametrize("kept", [True, False], ids=["with the socket kept", "without one"])
async def test_a_shortage_of_descriptors_does_not_end_the_reports_of_life(tmp_path: Path, kept: bool):
    """It ended them: systemd killed the agent when the shortage was long over."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        clock = ShortWaits(3)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000"}
        notifier = Notifier(clock=clock, environment=environment)
        if kept:
            await notifier.start()
            assert systemd.recv(100) == b"READY=1"
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, before[1]))  # no new one has a number below that
        try:
            if not kept:
                await notifier.start()
            await asyncio.wait_for(_spent(clock), 5)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        if kept:
            assert [systemd.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        clock.left = 1
        notifier.send("WATCHDOG=1")
        assert systemd.recv(100) == b"WATCHDOG=1"
        await notifier.stop()


async def _spent(clock: ShortWaits) -> None:
    while clock.left >= 0:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)
