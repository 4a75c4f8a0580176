"""How an app does now: asked once for however many look, bounded in time, and true also where nothing runs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from agent.core.config.app import Health
from agent.deploy.condition import Condition
from agent.host.clock import SystemClock
from agent.host.ports import Placed, Running, Service

PLACED = Placed("20261123020055Z", "v1", Path("/nowhere"))


class Asked:
    """A web application that counts how often it is asked; `silent`, it never answers."""

    def __init__(self) -> None:
        self.placed, self.address = PLACED, ""
        self.count, self.silent = 0, False
        self.status = b"200 OK"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        self.count += 1
        if self.silent:
            await reader.read()  # until the other end has waited long enough
        else:
            writer.write(b"HTTP/1.0 %b\r\n\r\n" % self.status)
        writer.close()

    def running(self) -> Running | None:
        return cast(Running, self) if self.address else None


@pytest.fixture
async def app() -> AsyncIterator[Asked]:
    found = Asked()
    sock = socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(found.answer, sock=sock)
    found.address = "{}:{}".format(*sock.getsockname())
    yield found
    server.close()


def condition(app: Asked, folder: Path = Path("/"), **health: object) -> Condition:
    checked = Health.model_validate(health)
    return Condition(lambda: checked, folder=folder, service=cast(Service, app), clock=SystemClock())


async def test_an_app_that_answers_is_healthy_and_is_asked_once_for_all_who_look(app: Asked) -> None:
    one = condition(app)
    found = await asyncio.gather(*(one.health() for _ in range(20)))
    assert app.count == 1
    assert all((each["healthy"], each["why"]) == (True, "") for each in found)
    assert found[0]["asked"].endswith("Z")


async def test_an_answer_that_is_not_the_one_wanted_is_told_with_its_reason(app: Asked) -> None:
    app.status = b"500 Oh"
    found = await condition(app).health()
    assert (found["healthy"], found["why"]) == (False, "/ answered 500, expected was 200")


async def test_an_app_that_does_not_answer_is_waited_for_no_longer_than_its_deadline(app: Asked) -> None:
    app.silent = True
    found = await condition(app, deadline_s=0.1).health()
    assert (found["healthy"], found["why"]) == (False, "it did not answer within 0.1 s")


async def test_where_nothing_runs_nothing_is_asked(app: Asked) -> None:
    app.address = ""
    found = await condition(app).health()
    assert (found["healthy"], found["why"]) == (None, "nothing runs")
    assert app.count == 0


async def test_the_disk_is_that_of_the_app_also_before_its_first_release(app: Asked, tmp_path: Path) -> None:
    found = await condition(app, tmp_path / "not/there/yet").disk()
    assert found is not None
    assert 0 < found["free"] <= found["total"]
