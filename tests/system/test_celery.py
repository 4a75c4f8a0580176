"""A Flask app with Celery on a real broker: a deployment and a rollback lose no job, and none runs elsewhere."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.system import versions
from tests.system.server import Server
from tests.system.test_processes import apply, runs

REQUIREMENTS = "Flask==3.0.3\ngunicorn==22.0.0\ncelery==5.4.0\nredis==6.4.0\n"
TABLES = """
[processes.worker]
start = "celery -A jobs worker --concurrency 2 --loglevel info"
health = ["celery", "-A", "jobs", "inspect", "ping"]
drain_s = 20
[timers.nightly]
start = "python nightly.py"
schedule = "*:*:*"
"""
JOBS = """
import time
import redis
from celery import Celery

VERSION = {version!r}
queue = Celery("jobs", broker="redis://127.0.0.1:6379/0")
queue.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)
store = redis.Redis(db=1)

@queue.task
def job(number):
    time.sleep(0.05)
    store.rpush("done", f"{{number}} {{VERSION}}")
"""
ROUTE = """

import jobs

@app.post("/job/<int:number>")
def ask(number: int) -> dict[str, str]:
    jobs.job.delay(number)
    return {"version": VERSION}
"""
NIGHTLY = """
import jobs
jobs.store.rpush("nightly", jobs.VERSION)
"""


def write(source: Path, version: str, wheels: Path) -> Path:
    files = {"jobs.py": JOBS.format(version=version), "nightly.py": NIGHTLY, "requirements.txt": REQUIREMENTS}
    versions.write(source, version, after=ROUTE, **files)
    (source / version / "wheels").mkdir()
    for wheel in wheels.iterdir():
        (source / version / "wheels" / wheel.name).hardlink_to(wheel)
    return source


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the app needs, for a host that has no way out."""
    folder = tmp_path_factory.mktemp("wheels")
    (folder.parent / "requirements.txt").write_text(REQUIREMENTS)
    argv = (sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(folder))
    subprocess.run((*argv, "--requirement", str(folder.parent / "requirements.txt")), check=True)
    return folder


@pytest.fixture
def broker(server: Server) -> Iterator[Server]:
    server.machine.run("systemd-run", "--unit=broker", "redis-server", "--save", "", "--dir", "/run")
    yield server
    apply(server, "")
    server.machine.run("systemctl", "stop", "broker.service")


def redis(server: Server, *words: str) -> list[str]:
    return server.machine.says("redis-cli", "-n", "1", *words).splitlines()


class Stream:
    """Jobs that visitors ask for, 20 a second, within the block; `asked` are those that the app has accepted."""

    def __init__(self, server: Server) -> None:
        self._url = f"http://{server.machine.address}:8000/job"
        self.asked: list[int] = []

    async def __aenter__(self) -> "Stream":
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self) -> None:
        number = 0
        while True:
            number += 1
            await asyncio.wait({asyncio.create_task(self._one(number))}, timeout=0.05)
            await asyncio.sleep(0.05)

    async def _one(self, number: int) -> None:
        async with aiohttp.ClientSession() as session, session.post(f"{self._url}/{number}") as answer:
            assert answer.status == 200
            self.asked.append(number)


def done(server: Server) -> dict[int, str]:
    """Which version did each job."""
    return {int(line.split()[0]): line.split()[1] for line in redis(server, "lrange", "done", "0", "-1")}


@pytest.mark.network
@pytest.mark.timeout(400)
async def test_no_job_is_lost_and_after_the_end_none_runs_with_the_wrong_version(
    broker: Server, wheels: Path, tmp_path: Path
) -> None:
    def deploy(version: str) -> None:
        broker.deploy(version, source=write(tmp_path, version, wheels))

    def wait_for(number: int) -> None:
        broker.machine.until(lambda: number in done(broker), seconds=30, what=f"job {number}")

    await asyncio.to_thread(apply, broker, TABLES)
    await asyncio.to_thread(deploy, "c1")
    marks = {}
    async with Stream(broker) as stream:
        await asyncio.sleep(2)
        began = time.monotonic()
        await asyncio.to_thread(deploy, "c2")
        marks["c2"] = stream.asked[-1]
        print(f"c2 took {time.monotonic() - began:.1f} s")
        await asyncio.sleep(2)
        began = time.monotonic()
        before_rollback = stream.asked[-1]
        answer = await asyncio.to_thread(broker.rollback)
        assert answer["outcome"] == "done", json.dumps(answer)
        marks["c1"] = stream.asked[-1]
        print(f"rollback took {time.monotonic() - began:.1f} s")
        assert runs(broker) == {"worker": "c1"}
        await asyncio.sleep(2)
    await asyncio.to_thread(wait_for, stream.asked[-1])
    broker.machine.until(lambda: len(done(broker)) >= len(stream.asked), seconds=30, what="all jobs")
    by = done(broker)
    print(f"{len(stream.asked)} jobs asked for, {len(by)} done")
    assert not {*stream.asked} - {*by}
    # What was asked for after the end of a deployment was asked for after its workers ran.
    assert {by[n] for n in stream.asked if marks["c2"] < n <= before_rollback} == {"c2"}
    assert {by[n] for n in stream.asked if n > marks["c1"]} == {"c1"}
    assert {*by.values()} == {"c1", "c2"}
    nightly = redis(broker, "lrange", "nightly", "0", "-1")
    assert nightly[0] == "c1"
    assert nightly[-1] == "c1"
    assert "c2" in nightly
