"""The description of the door fits what the door does: tried by schemathesis, and compared with real answers."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import BaseModel, TypeAdapter

from agent.doors.http.documents.app import Answered, Command, LogLine, Status
from agent.doors.http.documents.deployment import Begun, Deployment, Event, Finished
from agent.doors.http.documents.document import Problem
from agent.doors.http.documents.history import Record
from agent.doors.http.documents.host import Apps, Health
from agent.doors.http.documents.release import Bom, Entry, Missing, Pinned, Releases
from agent.doors.http.handlers import Handlers
from agent.doors.http.openapi import RESPONSES, document
from agent.doors.http.responses import STATUS
from agent.doors.http.routes import ROUTES, Policy
from pusher.wire import Code, Happened
from tests.deploy.test_metrics import until_scraped
from tests.host import APP, Host, hook, running, wsgi

HOOKS = Path(__file__).with_name("openapi_hooks.py")
SETTINGS = """
continue-on-failure = true
request-timeout = 30.0

[phases.stateful]
enabled = false

[generation]
deterministic = true
max-examples = 8
database = "none"

[parameters]
"query.unit" = "service"
"""
"""The unit is the host's: no schema can say which there are."""


async def schemathesis(host: Host, folder: Path, settings: str) -> None:
    """Try the door of a host as schemathesis tries it, always in the same way. Fails with what it has found."""
    config, bundle = folder / "schemathesis.toml", folder / "bundle"

    def prepare() -> None:
        config.write_text(settings)
        bundle.write_bytes(host.bundle(wsgi("v3"), "v3"))

    await asyncio.to_thread(prepare)
    kept = ("PATH", "LANG")
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("st")), "--config-file", str(config), "--no-color", "run"),
        f"http://127.0.0.1:{host.door}/openapi.json",
        cwd=folder,
        env={name: os.environ[name] for name in kept if name in os.environ}
        | {"PYTHONPATH": str(HOOKS.parent), "SCHEMATHESIS_HOOKS": HOOKS.stem, "PUSHER_TEST_BUNDLE": str(bundle),
           "NO_PROXY": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    selected = re.search(r"(\d+) selected / \1 total", said.decode())
    assert selected is not None, said.decode()
    assert int(selected[1]) >= len(ROUTES) - 1  # it does not ask for the description itself


@pytest.mark.slow
async def test_schemathesis_finds_nothing_in_a_host_with_an_app(host: Host, tmp_path: Path) -> None:
    await host.deploy(wsgi("v1"), "v1")
    await host.deploy(wsgi("v2"), "v2")
    await schemathesis(host, tmp_path, f'{SETTINGS}"path.app" = "{APP}"\n')
    assert (await host.request("GET", "/healthz"))[0] == 200


@pytest.mark.slow
async def test_schemathesis_finds_nothing_whatever_the_app_is_called(host: Host, tmp_path: Path) -> None:
    await schemathesis(host, tmp_path, SETTINGS)
    assert (await host.request("GET", "/status"))[0] == 200


def fits(model: type[BaseModel], found: Mapping[str, Any]) -> None:
    """Each member of a document is one of its model, and the other way round."""
    TypeAdapter(model).validate_python(found)


async def test_every_answer_of_an_agent_has_the_members_that_are_described(host_off: Host) -> None:
    file = host_off.layout.app_toml(APP)
    file.write_text(
        f"{file.read_text()}[processes.worker]\nstart = \"python -c 'import time; time.sleep(600)'\"\n"
        '[timers.nightly]\nstart = "python -c pass"\nschedule = "*-*-* 03:00"\n'
    )
    async with running(host_off) as host:
        fits(Status, (await host.request("GET", "/status"))[1])
        begun = await host.request("POST", "/rollback")
        fits(Problem, begun[1])
        fits(Finished, await host.deploy(wsgi("v1"), "v1"))
        done = await host.deploy(wsgi("v2"), "v2")
        broken = wsgi("v3") | {"app.py": "import nothing_of_that_name\n"}
        status, failed = await host.send(broken, "v3")
        assert status == 422
        fits(Problem, failed)
        fits(Deployment, (await host.request("GET", failed["instance"]))[1])
        fits(Deployment, (await host.request("GET", f"/deployments/{done['deployment']}"))[1])
        _, releases = await host.request("GET", "/releases")
        fits(Releases, releases)
        assert releases["deployments"][0]["problem"]
        pin = f"/apps/{APP}/pin?release={done['release']}"
        fits(Pinned, (await host.request("POST", pin))[1])
        command = f"/apps/{APP}/commands?run=1&by=root&release={done['release']}&command=true"
        fits(Command, (await host.request("POST", command))[1])
        fits(Bom, (await host.request("GET", f"/apps/{APP}/sbom"))[1])
        fits(Apps, (await host.request("GET", "/apps"))[1])
        fits(Answered, (await host.request("GET", f"/apps/{APP}/health"))[1])
        fits(Health, (await host.request("GET", "/healthz"))[1])
        bundle = await asyncio.to_thread(host.bundle, wsgi("v4"), "v4")
        fits(Missing, (await host.request("POST", f"/apps/{APP}/missing", data=bundle))[1])
        for line in await lines(host, f"/apps/{APP}/history"):
            fits(Record, line)
        for line in await lines(host, f"/apps/{APP}/index"):
            fits(Entry, line)
        for line in await lines(host, "/logs"):
            fits(LogLine, line)
        for line in await lines(host, f"/deployments/{done['deployment']}/events"):
            fits(Event, line)
            assert line["event"] in set(Happened)
        fits(Status, (await host.request("GET", "/status"))[1])


async def test_what_is_under_way_has_the_members_that_are_described(host: Host) -> None:
    await host.deploy(wsgi("v1"), "v1")
    gate = host.root / "gate"
    os.mkfifo(gate)
    files = wsgi("v2") | {"hooks/before-symlink": hook(f"cat {gate}")}
    bundle = await asyncio.to_thread(host.bundle, files, "v2")
    prefer = {"Prefer": "respond-async"}
    status, begun = await host.request("POST", f"/apps/{APP}/deployments", data=bundle, headers=prefer)
    assert status == 202
    fits(Begun, begun)
    await until_scraped(host, lambda one: one.value("pusher_deployment_running") == 1)
    fits(Status, (await host.request("GET", "/status"))[1])
    fits(Deployment, (await host.request("GET", f"/deployments/{begun['deployment']}"))[1])
    status, cancelled = await host.request("POST", "/cancel")
    assert status == 202
    fits(Begun, cancelled)


async def lines(host: Host, path: str) -> list[dict[str, Any]]:
    """The lines of a stream that ends."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{host.door}{path}") as answer:
        assert answer.content_type == "application/x-ndjson"
        return [json.loads(line) for line in (await answer.read()).splitlines() if line]


async def test_the_agent_serves_its_description_to_anybody(host: Host) -> None:
    status, found = await host.request("GET", "/openapi.json")
    assert (status, found) == (200, json.loads(json.dumps(document())))


def test_every_route_is_described_with_its_policy_and_parameters() -> None:
    paths = document()["paths"]
    found = {
        (method.upper(), path, one["x-policy"],
         tuple(parameter["name"] for parameter in one["parameters"] if parameter["in"] == "query"))
        for path, methods in paths.items()
        for method, one in methods.items()
    }  # fmt: skip
    assert found == {(row.method, str(row.path), row.policy.value, row.parameters) for row in ROUTES}
    assert {row.handler for row in ROUTES} == {*RESPONSES}
    names = [one["operationId"] for methods in paths.values() for one in methods.values()]
    assert len({*names}) == len(names) == len(ROUTES)
    assert paths["/openapi.json"]["get"]["x-policy"] == Policy.ANYONE
    assert RESPONSES[Handlers.cancel].keys() == {202}


def test_the_codes_of_problems_are_those_that_there_are() -> None:
    assert {*document()["components"]["schemas"]["Code"]["enum"]} == {*Code} == {*STATUS}


def test_the_description_needs_nothing_that_it_does_not_have() -> None:
    text = json.dumps(document())
    named = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert named <= {*document()["components"]["schemas"]}
    assert '"additionalProperties": false' not in text  # a client ignores what it does not know
