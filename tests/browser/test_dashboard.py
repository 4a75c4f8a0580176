"""`pusher dashboard` in a real browser: two hosts, of which one goes away, a rollback and a pin, and a fleet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pusher.fleet.inventory import adopt
from pusher.wire.channel import Rollout, report_name
from pusher.wire.report import Named
from tests.browser.browser import ENTER, ESCAPE, NARROW, Browser
from tests.browser.dashboards import Run, dashboard
from tests.browser.foreign import EVIL, NOTHING, attack, serving, tried
from tests.browser.markup import EVIL as MARKUP
from tests.browser.markup import hostile, roll_back_in_markup
from tests.deploy.simulated_agent import opened
from tests.host import APP, Host, running, wsgi
from tests.publishing import Publisher
from tests.reporting import Reporting

EVIL_TITLE = "<img src=x onerror=alert(1)> fails"


@pytest.fixture
async def other(tmp_path: Path, uv_cache: Path, ready_venvs: Path) -> AsyncIterator[Host]:
    """A second host, web2."""
    async with running(Host(tmp_path / "other", uv_cache=uv_cache, venvs=ready_venvs, name="web2")) as found:
        yield found


@pytest.fixture
async def run(host: Host, other: Host, tmp_path: Path) -> AsyncIterator[Run]:
    """A dashboard of both."""
    (tmp_path / "pusher.toml").write_text(
        "".join(f'[hosts.{one.name}]\naddress = "http://127.0.0.1:{one.door}"\n' for one in (host, other))
    )
    async with dashboard(home=tmp_path) as found:
        yield found


async def test_two_hosts_are_seen_as_they_change_and_one_that_goes_away_is_named_first(
    browser: Browser, run: Run, host: Host, other: Host
):
    await host.deploy(wsgi("v1"), "v1")
    await browser.open(run.address)
    await browser.says("2 hosts, all well", "#hosts")
    assert "secret" not in await browser.run("return location.href")
    row = "[...document.querySelectorAll('#hosts tbody tr')].map(e => e.innerText.split('\\t')[0].trim())"
    assert await browser.run(f"return {row}") == ["web1", "web2"]
    await browser.says("nothing yet", "#hosts tbody tr:nth-child(2)")
    await other.deploy(wsgi("v2"), "v2")
    await browser.says("v2", "#hosts tbody tr:nth-child(2)")
    await other.stop()
    await browser.says("1 unwell", "#hosts")
    assert await browser.run(f"return {row}") == ["web2", "web1"]
    await browser.says("unreachable", "#hosts tbody tr:nth-child(1)")
    await other.start()
    await browser.says("all well", "#hosts")
    assert await browser.messages() == []
    assert {url.split("/")[2] for url in await browser.requests()} == {f"127.0.0.1:{run.port}"}


async def test_a_rollback_needs_the_version_typed_and_is_seen_to_its_end(browser: Browser, run: Run, host: Host):
    await host.deploy(wsgi("v1"), "v1")
    await host.deploy(wsgi("v2"), "v2")
    await browser.open(run.address)
    await browser.click("#hosts tbody tr:nth-child(1) a")
    await browser.says("v2", "#live .big")
    await browser.click("#live button.danger")
    disabled = "document.querySelector('dialog button.danger').disabled"
    assert await browser.run(f"return {disabled}")
    # The keyboard is enough: the field has the focus, Escape leaves, Enter confirms only the right version.
    await browser.press("v2", ENTER)
    assert await browser.run(f"return {disabled}")
    await browser.press(ESCAPE)
    await browser.until("!document.querySelector('dialog')")
    assert await host.serving() == "v2"
    await browser.click("#live button.danger")
    await browser.press("v1", ENTER)
    await browser.until("!document.querySelector('dialog')")
    await browser.says("rollback to v1", "#deployment .outcome")
    await browser.says("done", "#deployment .outcome")
    await browser.says("v1", "#live .big")
    assert await host.serving() == "v1"
    # One thing more that can be changed: v2 was left, and stays for now.
    await browser.says("withdrawn", "#releases")
    await browser.click("#releases tbody tr:nth-child(1) button:not(.danger)")
    await browser.press("v2", ENTER)
    await browser.says("pinned", "#releases tbody tr:nth-child(1)")
    await browser.resize(*NARROW)
    assert await browser.run("return document.documentElement.scrollWidth") <= NARROW[0]
    assert await browser.messages() == []


async def test_a_rollback_from_what_is_not_live_any_more_is_refused(browser: Browser, run: Run, host: Host):
    await host.deploy(wsgi("v1"), "v1")
    await host.deploy(wsgi("v2"), "v2")
    await browser.open(f"{run.address}")
    await browser.click("#hosts tbody tr:nth-child(1) a")
    await browser.says("v2", "#live .big")
    await browser.click("#live button.danger")
    await host.deploy(wsgi("v3"), "v3")
    await browser.press("v1", ENTER)
    await browser.says("Nothing was changed", "dialog")
    assert await host.serving() == "v3"


async def test_pages_of_others_get_nothing_although_the_browser_has_the_cookie(
    browser: Browser, run: Run, host: Host
):
    await host.deploy(wsgi("v1"), "v1")
    first = (await host.request("GET", "/status"))[1]["live"]["release"]
    await host.deploy(wsgi("v2"), "v2")
    live = (await host.request("GET", "/status"))[1]["live"]["release"]
    await browser.open(run.address)
    await browser.says("v2", "#hosts")
    path = f"/hosts/0/apps/{APP}"
    page = attack(
        run.origin, read=f"{path}/status", change=f"{path}/rollback", release=first, leaving=live, typed="v1"
    )
    async with serving(lambda: page) as port:
        # At 127.0.0.1 it is of the same site, and the browser adds the cookie to what it sends.
        for name in (EVIL, "127.0.0.1"):
            assert await tried(browser, f"http://{name}:{port}/") == NOTHING
    # A name server now says that evil.example is this machine: the page is of its origin, and still gets nothing.
    await browser.open(f"http://{EVIL}:{run.port}/")
    await browser.says("The request is not served")
    read = "return fetch(arguments[0], {method: arguments[1]}).then(r => r.status)"
    assert await browser.run(read, f"{path}/status", "GET") == 403
    assert await browser.run(read, f"{path}/rollback", "POST") == 403
    assert await host.serving() == "v2"
    said = await run.said()
    assert "refused POST: its Origin is http://127.0.0.1:" in said
    assert f"refused GET: its Host is {EVIL}:{run.port}" in said


async def test_what_a_host_says_is_shown_as_text_whatever_it_is(browser: Browser, tmp_path: Path):
    async with opened("shop", drain_s=0.1) as (door, agent):
        hostile(agent.apps["shop"])
        await roll_back_in_markup(door, agent.apps["shop"])
        async with dashboard("--host", f"http://{door.address}", home=tmp_path) as run:
            await browser.open(run.address)
            await browser.says(MARKUP, "#hosts")
            await browser.resize(*NARROW)
            assert await browser.run("return document.documentElement.scrollWidth") <= NARROW[0]
            await browser.click("#hosts tbody tr:nth-child(1) a")
            await browser.says(MARKUP, "#live .big")
            await browser.says(MARKUP, "#releases")
            await browser.click("#live button.danger")
            await browser.says(f"Roll back: {MARKUP}", "dialog")
            assert await browser.run("return [window.pwned ?? null, document.images.length]") == [None, 0]
            refused = [one for one in await browser.messages() if "Security Policy" in one or "Trusted" in one]
            assert refused == []


async def test_a_fleet_is_shown_by_waves_and_its_unwell_hosts_by_name(
    browser: Browser, tmp_path: Path, publisher: Publisher
):
    target = await asyncio.to_thread(publisher.put, {"app.py": ""}, "v2")
    rollout = Rollout(waves=(("web1", "web2"), 100), open=1)
    await asyncio.to_thread(partial(publisher.name, target, rollout=rollout))
    wanted = Named(target.release.manifest, "v2")
    members = {"wanted": wanted, "attempt": 1}
    old = Named("0b" * 32, "v1")
    states: dict[str, dict[str, Any]] = {
        "web1": {"state": "current", "live": wanted, **members},
        "web2": {"state": "failed", "live": old, "problem": {"title": EVIL_TITLE}, **members},
        "web3": {"state": "waiting", "awaited": "wave", "live": old, **members},
    }
    (tmp_path / "hosts").mkdir()
    hosts = {name: await asyncio.to_thread(Reporting, tmp_path / "hosts", name) for name in (*states, "web4")}
    for name, host in hosts.items():
        await asyncio.to_thread(lambda host=host: adopt(tmp_path / "fleet.allowed", host.identity.public()))
        if name in states:
            path = publisher.folder / report_name(APP, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(await asyncio.to_thread(partial(host.signed, **states[name])))
    words = ("--repository", str(publisher.folder), "--signers", str(tmp_path / "signers"), "--app", APP)
    async with dashboard(*words, home=tmp_path) as run:
        await browser.open(run.address)
        await browser.says("4 hosts, 2 unwell", "#fleet")
        waves = await browser.run(
            "return [...document.querySelectorAll('[aria-label=Waves] li')].map(e => e.innerText)"
        )
        assert waves == ["Wave 1: 1 of 2, 1 unwell", "Wave 2, closed: 0 of 2, 1 unwell"]
        rows = await browser.run(
            "return [...[...document.querySelectorAll('#fleet table')].pop().querySelectorAll('tbody tr')]"
            ".map(e => e.cells[0].innerText.trim())"
        )
        assert rows == ["web2", "web4", "web3", "web1"]
        await browser.says(EVIL_TITLE, "#fleet")
        assert await browser.run("return document.querySelectorAll('img').length") == 0
        assert await browser.messages() == []


async def test_fifty_hosts_are_seen_on_one_page_as_each_changes(browser: Browser, tmp_path: Path):
    async with AsyncExitStack() as stack:
        doors = [await stack.enter_async_context(opened("shop", drain_s=0.1)) for _ in range(50)]
        (tmp_path / "pusher.toml").write_text(
            "".join(f'[hosts.web{at}]\naddress = "http://{door.address}"\n' for at, (door, _) in enumerate(doors))
        )
        run = await stack.enter_async_context(dashboard(home=tmp_path))
        await browser.open(run.address)
        await browser.says("50 hosts, all well", "#hosts", within_s=30)

        async def summary() -> dict[str, Any]:
            return {"app": "shop", "live": {"version": "v2", "release": "R"}, "running": True}

        for _, agent in doors:
            agent.apps["shop"].summary = summary  # type: ignore[method-assign]
        rows = "[...document.querySelectorAll('#hosts tbody tr')]"
        await browser.until(f"{rows}.length === 50 && {rows}.every(e => e.innerText.includes('v2'))", within_s=30)
