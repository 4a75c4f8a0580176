"""A real Prometheus scrapes a real agent, as a user who may do nothing else there."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest

from agent.doors.http.families import METRICS
from tests.host import APP, Host, hook, running, wsgi
from tests.ports import free_port

PACKAGING = Path(__file__).parents[2] / "packaging"
ALERTS = PACKAGING / "prometheus/pusher-agent-alerts.yml"
DASHBOARD = PACKAGING / "grafana/pusher-agent.json"
USER = "prometheus"
"""The user that Debian's package makes."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("prometheus") is None, reason="starts Debian's Prometheus as its user"
    ),
]


class Prometheus:
    """One that runs. `ask` is its HTTP API."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self._address = f"http://127.0.0.1:{port}/api/v1"
        self._session = session

    async def ask(self, path: str, **parameters: str) -> Any:
        async with self._session.get(f"{self._address}/{path}", params=parameters) as answer:
            document = await answer.json()
        assert document["status"] == "success", document
        return document["data"]

    async def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        found = (await self.ask("query", query=expression))["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    async def until(self, expression: str, value: float) -> None:
        """Wait until an expression has one result, with this value."""
        async with asyncio.timeout(60):
            while [found for _, found in await self.query(expression)] != [value]:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.1)

    async def target(self) -> dict[str, Any]:
        """The one target, once it was scraped."""
        async with asyncio.timeout(60):
            while True:
                (target,) = (await self.ask("targets"))["activeTargets"] or [{"health": "unknown"}]
                if target["health"] != "unknown":
                    return dict(target)
                await asyncio.sleep(0.1)


def prepare(folder: Path, scraping: str) -> tuple[Path, Path]:
    """Its configuration, and the folder for what it stores."""
    folder.chmod(0o755)  # pytest's own folders are closed to other users
    config, data = folder / "prometheus.yml", folder / "data"
    shutil.copy(ALERTS, folder)
    config.write_text(f"global:\n  evaluation_interval: 1s\nrule_files: [{ALERTS.name}]\n{scraping}")
    data.mkdir()
    shutil.chown(data, USER)
    return config, data


@asynccontextmanager
async def prometheus(host: Host) -> AsyncIterator[Prometheus]:
    """Debian's Prometheus with the example configuration and alerts, in a folder of its own, on loopback."""
    scraping = (PACKAGING / "prometheus/pusher-agent-scrape.yml").read_text()
    scraping = scraping.replace("127.0.0.1:9000", f"127.0.0.1:{host.door}").replace("15s", "200ms")
    port = free_port()
    with TemporaryDirectory() as folder:
        config, data = await asyncio.to_thread(prepare, Path(folder), scraping)
        process = await asyncio.create_subprocess_exec(
            *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--pdeathsig=KILL", "--"),
            *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}", "--log.level=warn"),
            f"--web.listen-address=127.0.0.1:{port}",
            env={"PATH": os.environ["PATH"], "GOMAXPROCS": "1"},
        )
        try:
            async with aiohttp.ClientSession() as session:
                await _ready(session, port, process)
                yield Prometheus(port, session)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _ready(session: aiohttp.ClientSession, port: int, process: asyncio.subprocess.Process) -> None:
    ended = asyncio.create_task(process.wait())
    async with asyncio.timeout(30):
        while not ended.done():
            try:
                async with session.get(f"http://127.0.0.1:{port}/-/ready") as answer:
                    if answer.status == 200:
                        break
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.wait({ended}, timeout=0.05)
    assert not ended.done(), "Prometheus ended at once"
    ended.cancel()


def let_in(host: Host) -> None:
    """Let the user of Prometheus read the metrics."""
    text = host.layout.agent_toml.read_text()
    host.layout.agent_toml.write_text(f'{text}metrics_users = ["{USER}"]\n')


async def test_prometheus_scrapes_every_metric_and_sees_deployments_happen(host_off: Host) -> None:
    let_in(host_off)
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        async with prometheus(host) as server:
            await server.until("pusher_app_healthy", 1)
            await server.until('pusher_release_info{version="v1"}', 1)
            gate = host.root / "gate"
            os.mkfifo(gate)
            sending = asyncio.create_task(
                host.send(wsgi("v2") | {"hooks/before-symlink": hook(f"cat {gate}")}, "v2")
            )
            await server.until("pusher_deployment_running", 1)
            await asyncio.to_thread(gate.write_text, "go\n")
            assert (await sending)[0] == 200
            await server.until('pusher_deployments_total{kind="deploy",outcome="done"}', 2)
            await server.until('count(pusher_release_info{version="v2"})', 1)
            # What no app has here: workers and timers.
            known = {*await server.ask("label/__name__/values")}
            absent = {named.name for named in METRICS if named.labels[1:] in (("process",), ("timer",))}
            suffixes = {"histogram": "_bucket"}
            assert {named.name + suffixes.get(named.kind, "") for named in METRICS} - known == absent
            told = await server.ask("metadata")
            assert {named.name: (named.kind, named.says) for named in METRICS} == {
                name: (entries[0]["type"], entries[0]["help"])
                for name, entries in told.items()
                if name.startswith(("pusher_", "process_"))
            }
            for rules in (await server.ask("rules"))["groups"]:
                assert [rule["name"] for rule in rules["rules"] if rule["health"] == "err"] == []


async def test_prometheus_is_refused_until_the_host_names_its_user(host: Host) -> None:
    async with prometheus(host) as server:
        target = await server.target()
    assert target["health"] == "down"
    assert "403" in target["lastError"]


async def test_each_expression_of_the_dashboard_finds_something(host_off: Host) -> None:
    let_in(host_off)
    host_off.add_app(APP)
    text = host_off.layout.app_toml(APP).read_text()
    host_off.layout.app_toml(APP).write_text(
        f"{text}[processes.worker]\nstart = \"python -c 'import time; time.sleep(600)'\"\n"
    )
    async with running(host_off) as host, prometheus(host) as server:
        await server.until('pusher_deployments_total{outcome="done",kind="deploy"}', 0)
        await host.deploy(wsgi("v1"), "v1")
        await host.send(wsgi("v2") | {"app.py": "import nothing_of_that_name\n"}, "v2")
        await server.until("pusher_release_drift", 0)
        await server.until('pusher_deployments_total{outcome="failed",kind="deploy"}', 1)
        empty = []
        for title, expression in expressions():
            if not await server.query(expression):
                empty.append((title, expression))
    assert empty == []


def expressions() -> Iterator[tuple[str, str]]:
    """Each expression of the dashboard, with the variables as "all", and the title of its panel."""
    values = {"$app": ".*", "$instance": ".*", "$__rate_interval": "1m", "$__range": "1h"}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in values.items():
                expression = expression.replace(name, value)
            assert "$" not in expression
            yield panel["title"], expression


def test_the_dashboard_and_the_alerts_name_only_metrics_that_there_are() -> None:
    known = {
        named.name + suffix
        for named in METRICS
        for suffix in (("_bucket", "_sum", "_count") if named.kind == "histogram" else ("",))
    }
    for file in (DASHBOARD, ALERTS, PACKAGING / "prometheus/pusher-agent-alerts.test.yml"):
        found = {*re.findall(r"\b(?:pusher|process)_[a-z_]+", file.read_text())}
        assert found, file
        assert found - known == set(), file


@pytest.mark.parametrize(
    "what",
    [
        ("check", "rules", ALERTS.name),
        ("test", "rules", "pusher-agent-alerts.test.yml"),
        ("check", "config", "pusher-agent-scrape.yml"),
    ],
)
def test_promtool_accepts_the_examples(what: tuple[str, ...]) -> None:
    done = subprocess.run(("promtool", *what), cwd=ALERTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
