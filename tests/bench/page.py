"""`make bench-page`: what the page weighs, how soon it is there, and how it bears many rows and many hosts."""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from agent.core.phases import Phase
from agent.core.plan import Attempt, Kind
from agent.host.storage.journal import Journal
from pusher.fleet.inventory import adopt
from pusher.wire import Code, Failed
from pusher.wire.channel import Rollout, report_name
from pusher.wire.page import AGENT_FILES, AGENT_START, DASHBOARD_FILES, DASHBOARD_START
from pusher.wire.report import Named
from tests.browser.browser import Browser, browsing
from tests.browser.dashboards import dashboard
from tests.browser.pictures import FIRST, PAGE, ready
from tests.deploy.simulated_agent import opened
from tests.host import APP, Host, make_key, running, wsgi
from tests.publishing import Publisher
from tests.reporting import Reporting

ROUNDS = 5
ROWS = 10_000
WATCHED = 50


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
    """A fleet, from its reports."""
    await asyncio.to_thread(make_key, folder / "key")
    publisher = await asyncio.to_thread(partial(Publisher, folder / "repo", key=folder / "key"))
    await asyncio.to_thread(publisher.trust, folder / "signers")
    target = await asyncio.to_thread(publisher.put, {"app.py": ""}, "v5")
    await asyncio.to_thread(partial(publisher.name, target, rollout=Rollout(waves=(1, 10, 100), open=2)))
    await asyncio.to_thread(report, folder, publisher, Named(target.release.manifest, "v5"), hosts)
    words = ("--repository", str(publisher.folder), "--signers", str(folder / "signers"), "--app", APP)
    async with dashboard(*words, home=folder) as run:
        began = time.monotonic()
        await browser.open(run.address)
        await browser.says(f"{hosts:,} hosts", "#fleet", within_s=120)
        print(f"a fleet of {hosts:,} shown after {time.monotonic() - began:.2f} s")


def report(folder: Path, publisher: Publisher, wanted: Named, hosts: int) -> None:
    """Let every host say how it stands; each hundredth has failed. Blocking."""
    (folder / "hosts").mkdir()

    def one(at: int) -> str:
        host = Reporting(folder / "hosts", f"web{at:05}")
        members: dict[str, Any] = {"state": "current" if at % 3 else "waiting"}
        if at % 100 == 0:
            members = {"state": "failed", "problem": {"title": "app:app does not import"}}
        path = publisher.folder / report_name(APP, host.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(host.signed(wanted=wanted, attempt=1, live=wanted, **members))
        return host.identity.public()

    with ThreadPoolExecutor(4) as pool:
        for public in pool.map(one, range(hosts)):
            adopt(folder / "fleet.allowed", public)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
