"""`make bench-page`: what the page weighs, how soon it is there, and how it bears many rows and many hosts."""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from agent.core.phases import Phase
from agent.core.plan import Attempt, Kind
from agent.host.storage.journal import Journal
from pusher.wire import Code, Failed
from pusher.wire.channel import Rollout
from pusher.wire.page import AGENT_FILES, AGENT_START, DASHBOARD_FILES, DASHBOARD_START
from tests.browser.browser import Browser, browsing
from tests.browser.dashboards import dashboard
from tests.browser.fleets import Fleet
from tests.browser.pictures import FIRST, PAGE, ready
from tests.deploy.simulated_agent import opened
from tests.host import APP, Host, make_key, running, wsgi
from tests.publishing import Publisher

ROUNDS = 5
ROWS = 10_000
WATCHED = 50
REST_S = 30


async def main() -> int:
    """Measure, and print a line each."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.page", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000, help="hosts in the fleet (default: 1000)")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, files in ((AGENT_START, AGENT_FILES), (DASHBOARD_START, DASHBOARD_FILES)):
        size = sum((PAGE / one).stat().st_size for one in (name, *files))
        print(f"{name}: {size / 1000:.1f} kB in {len(files) + 1} files")
    # In memory: what is measured is the page, not the disk.
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pusher-bench-", dir=shared) as folder, browsing() as browser:
        place = Path(folder)
        await one_host(browser, place)
        await many_hosts(browser, place)
        await a_fleet(browser, place, hosts=arguments.hosts)
    return 0


async def one_host(browser: Browser, folder: Path) -> None:
    """The first picture, then the page of an app with a long history."""
    host = Host(folder / "web1", uv_cache=folder / "cache", venvs=await asyncio.to_thread(ready, folder))
    url = f"http://127.0.0.1:{host.door}/"
    async with running(host):
        await host.deploy(wsgi("v1"), "v1")
        firsts = []
        for _ in range(ROUNDS):
            await browser.open(url)
            await browser.says("healthy", "#live")
            firsts.append(await browser.run(FIRST))
    print(f"first picture: {sorted(firsts)[ROUNDS // 2]:.0f} ms (median of {ROUNDS})")
    await fill(host)
    async with running(host):
        await host.request("GET", "/status")  # the first one after a start reads all of the history
        began = time.monotonic()
        await browser.open(url)
        await browser.says(f"w{ROWS - 1}", "#history", within_s=60)
        print(f"newest of {ROWS:,} deployments shown after {time.monotonic() - began:.2f} s")
        began = time.monotonic()
        await browser.type("#history input", "w12")
        await browser.says("of 111", "#history .tools", within_s=60)
        print(f"found among all of them after {time.monotonic() - began:.2f} s")


async def fill(host: Host) -> None:
    """Let the journal have many deployments, which failed."""
    journal, now = Journal(host.layout.journal), int(time.time() * 1000)
    await journal.open()
    for at in range(ROWS):
        release = f"2027{at:010}Z"
        one = Attempt(
            id=f"{APP}-{release}",
            app=APP,
            kind=Kind.DEPLOY,
            release=release,
            version=f"w{at}",
            previous=None,
            by="root (uid 0)",
            manifest="0" * 64,
        )
        problem = Failed(Code.APP_UNHEALTHY, "it did not answer")
        await journal.begin(one, manifest="0" * 64, created=now + at, now=now + at)
        await journal.finish(one, Phase.FAILED, now=now + at + 5, problem=problem, forget=True)
    await journal.close()


async def many_hosts(browser: Browser, folder: Path) -> None:
    """All hosts of a dashboard change at once."""
    async with AsyncExitStack() as stack:
        doors = [await stack.enter_async_context(opened("shop", drain_s=0.1)) for _ in range(WATCHED)]
        text = (f'[hosts.web{at}]\naddress = "http://{door.address}"\n' for at, (door, _) in enumerate(doors))
        await asyncio.to_thread((folder / "pusher.toml").write_text, "".join(text))
        run = await stack.enter_async_context(dashboard(home=folder))
        await browser.open(run.address)
        await browser.says(f"{WATCHED} hosts, all well", "#hosts", within_s=60)
        took = []
        for version in (f"v{at}" for at in range(ROUNDS)):

            async def summary(version: str = version) -> dict[str, Any]:
                return {"app": "shop", "live": {"version": version, "release": "R"}, "running": True}

            began = time.monotonic()
            for _, agent in doors:
                agent.apps["shop"].summary = summary  # type: ignore[method-assign]
            rows = "[...document.querySelectorAll('#hosts tbody tr')]"
            await browser.until(f"{rows}.every(e => e.innerText.includes('{version}'))", within_s=60)
            took.append(time.monotonic() - began)
    print(f"a change on all of {WATCHED} hosts shown after {sorted(took)[ROUNDS // 2]:.2f} s (median of {ROUNDS})")


async def a_fleet(browser: Browser, folder: Path, *, hosts: int) -> None:
    """A fleet, from its reports: seen, at rest, and when all of them report anew."""
    await asyncio.to_thread(make_key, folder / "key")
    fleet = await asyncio.to_thread(begun, folder, hosts)
    async with dashboard(*fleet.words, home=folder) as run:
        began = time.monotonic()
        await browser.open(run.address)
        await browser.says(f"{hosts:,} hosts", "#fleet", within_s=120)
        print(f"a fleet of {hosts:,} shown after {time.monotonic() - began:.2f} s")
        before = processor_s(run.process.pid)
        await asyncio.sleep(REST_S)
        busy = (processor_s(run.process.pid) - before) / REST_S
        print(f"a look at it takes {100 * busy:.1f} % of a core of the machine that serves the page")
        live = {"state": "current", "live": fleet.wanted}
        await asyncio.to_thread(fleet.report, {f"web{at:05}": live for at in range(hosts)})
        began = time.monotonic()
        await browser.says(f"current {hosts:,} on v2", "#fleet", within_s=120)
        print(f"{hosts:,} new reports shown after {time.monotonic() - began:.2f} s")


def begun(folder: Path, hosts: int) -> Fleet:
    """A fleet that has reported; each hundredth host has failed. Blocking."""
    publisher = Publisher(folder / "repo", key=folder / "key")
    fleet = Fleet(folder, publisher, Rollout(waves=(1, 10, 100), open=2))
    names = [f"web{at:05}" for at in range(hosts)]
    fleet.adopt(*names)
    failed = {"state": "failed", "problem": {"title": "app:app does not import"}}
    fleet.report({name: {"state": "waiting"} if at % 100 else failed for at, name in enumerate(names)})
    return fleet


def processor_s(pid: int) -> float:
    """What a process has had of the processors until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
