"""`pusher dashboard` of hosts that are not as they should be, and a page of a run that has ended."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pusher.wire import Code, Refused, format_timestamp
from tests.browser.browser import ENTER, ESCAPE, NARROW, Browser
from tests.browser.dashboards import dashboard
from tests.browser.skewed import skewed
from tests.deploy.simulated_agent import SimulatedApp, opened, until

TWO_HOURS = timedelta(hours=2)
TRACEBACK = "\n".join(f"line {at} of a traceback that goes on and on" for at in range(60))


def says(shop: SimulatedApp, *, ahead: timedelta = timedelta(), **members: Any) -> list[int]:
    """Let an app say that it went live 4 minutes ago, by its host's clock; how often it was asked."""
    count = [0]

    async def summary() -> dict[str, Any]:
        count[0] += 1
        at = time.time() * 1000 + ahead.total_seconds() * 1000
        since = format_timestamp(int(at) - 240_000 - count[0])  # never quite the same: the page is drawn anew
        live = {"version": "v2", "release": "20261128010203Z", "since": since, "by": "alice"}
        previous = {"version": "v1", "release": "20261127010203Z"}
        return {"app": "shop", "host": "web1", "live": live, "running": True, "previous": previous, **members}

    shop.summary = summary  # type: ignore[method-assign]
    return count


@pytest.mark.parametrize("ahead", [TWO_HOURS, -TWO_HOURS])
async def test_ages_are_by_the_clock_of_each_host_and_a_wrong_clock_is_named(
    browser: Browser, tmp_path: Path, ahead: timedelta
):
    async with (
        opened("shop", drain_s=0.1) as (right, one),
        opened("shop", drain_s=0.1) as (wrong, other),
        skewed(wrong.address, ahead=ahead) as address,
    ):
        says(one.apps["shop"])
        says(other.apps["shop"], ahead=ahead)
        (tmp_path / "pusher.toml").write_text(
            f'[hosts.web1]\naddress = "http://{right.address}"\n[hosts.web2]\naddress = "http://{address}"\n'
        )
        async with dashboard(home=tmp_path) as run:
            await browser.open(run.address)
            side = "ahead" if ahead > timedelta() else "behind"
            await browser.says(f"clock 2 h {side}", "#hosts tbody tr:nth-child(2)")
            for row in (1, 2):
                await browser.says("4 min ago by alice", f"#hosts tbody tr:nth-child({row})")
            assert "clock" not in await browser.text("#hosts tbody tr:nth-child(1)")
            # The page of that host goes by its clock as well.
            await browser.click("#hosts tbody tr:nth-child(2) a")
            await browser.says("4 min ago by alice", "#live")
            await browser.click("nav a")
            await browser.click("#hosts tbody tr:nth-child(1) a")
            await browser.says("4 min ago by alice", "#live")


async def test_a_host_that_refuses_is_told_from_one_that_cannot_be_reached_with_what_to_do(
    browser: Browser, tmp_path: Path
):
    async with opened("shop", drain_s=0.1) as (door, agent), opened("shop", drain_s=0.1) as (ill, other):

        async def refused() -> dict[str, Any]:
            raise Refused(Code.CONFIGURATION, "shop.toml cannot be used", why=TRACEBACK, hint="Mend it")

        agent.apps["shop"].summary = refused  # type: ignore[method-assign]
        says(other.apps["shop"], trouble=TRACEBACK)
        places = {"web1": door.address, "web2": ill.address, "web3": "127.0.0.1:1"}
        text = "".join(f'[hosts.{name}]\naddress = "http://{address}"\n' for name, address in places.items())
        (tmp_path / "pusher.toml").write_text(text)
        async with dashboard(home=tmp_path) as run:
            await browser.open(run.address)
            await browser.says("3 unwell", "#hosts")
            first, second, third = [await browser.text(f"#hosts tbody tr:nth-child({at})") for at in (1, 2, 3)]
            assert "unusable" in first
            assert "shop.toml cannot be used: line 0" in first
            assert "Mend it" in first
            assert "trouble" in second
            assert "line 0" in second
            assert "line 59" not in first + second
            assert "unreachable" in third
            assert "Connection refused" in third
            # The whole of it is one key away, and stays open while the others are drawn anew.
            await browser.run("document.querySelector('#hosts summary').focus()")
            await browser.press(ENTER)
            await browser.says("line 59", "#hosts tbody tr:nth-child(1) pre")
            says(other.apps["shop"], trouble="another")
            await browser.says("another", "#hosts tbody tr:nth-child(2)")
            assert await browser.run("return document.querySelector('#hosts details').open")
            assert await browser.run("return document.activeElement.localName") == "summary"
            await browser.resize(*NARROW)
            assert await browser.run("return document.documentElement.scrollWidth") <= NARROW[0]


async def test_nobody_is_called_well_who_has_not_answered_yet(browser: Browser, tmp_path: Path):
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass
        writer.close()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent, opened("shop", drain_s=0.1) as (door, agent):
        says(agent.apps["shop"])
        (tmp_path / "pusher.toml").write_text(
            f'[hosts.web1]\naddress = "http://{door.address}"\n[hosts.web2]\naddress = "http://127.0.0.1:{port}"\n'
        )
        async with dashboard(home=tmp_path) as run:
            await browser.open(run.address)
            await browser.says("v2", "#hosts")
            await browser.says("being asked", "#hosts")
            assert "all well" not in await browser.text("#hosts")


async def test_who_leaves_a_question_is_where_they_were(browser: Browser, tmp_path: Path):
    async with opened("shop", drain_s=0.1) as (door, agent):
        count = says(agent.apps["shop"])
        async with dashboard("--host", f"http://{door.address}", home=tmp_path) as run:
            await browser.open(run.address)
            await browser.click("#hosts a")
            await browser.says("Roll back to v1", "#live")
            await browser.run("document.querySelector('#live button.danger').focus()")
            await browser.press(ENTER)
            await browser.until("document.activeElement.id === 'typed'")
            before = count[0]
            await until(lambda: count[0] > before + 2)  # the page behind it was drawn anew
            await browser.press(ESCAPE)
            await browser.until("!document.querySelector('dialog')")
            assert await browser.run("return document.activeElement.innerText") == "Roll back to v1"


async def test_a_host_that_is_opened_leaves_connections_for_other_windows(browser: Browser, tmp_path: Path):
    async with opened("shop", drain_s=0.1) as (door, agent):
        says(agent.apps["shop"])
        async with dashboard("--host", f"http://{door.address}", home=tmp_path) as run:
            await browser.open(run.address)
            await browser.click("#hosts a")
            await browser.says("v2", "#live")
            await browser.requests()
            asked = [url for url in await all_of(browser) if "/all" in url]
            assert asked
            assert {url.rpartition("=")[2] for url in asked} == {"0"}  # answered at once


async def all_of(browser: Browser) -> list[str]:
    """What the page asks until it has asked for all hosts again."""
    found: list[str] = []
    while not any("/all" in url for url in found):
        await browser.until("document.body")
        found += await browser.requests()
    return found


async def test_a_page_of_a_run_that_has_ended_says_so_and_one_without_its_cookie_says_what_to_do(
    browser: Browser, tmp_path: Path
):
    async with opened("shop", drain_s=0.1) as (door, agent):
        says(agent.apps["shop"])
        async with dashboard("--host", f"http://{door.address}", home=tmp_path) as run:
            await browser.open(run.address)
            await browser.says("v2", "#hosts")
            port = run.port
        await browser.says("pusher dashboard has ended Start it again", ".notice")
        # The next run has the same address, and other secrets.
        words = ("--host", f"http://{door.address}", "--port", str(port))
        async with dashboard(*words, home=tmp_path) as run:
            await browser.says("The request is not served", ".notice")
            await browser.says("Open the address that `pusher dashboard` printed", ".notice")
            await browser.open(run.address)
            await browser.says("v2", "#hosts")
            said = await run.said()
        assert said.count("it does not have the cookie of this run") == 1


async def test_what_hardly_changes_is_no_news(browser: Browser, tmp_path: Path):
    """A page that is drawn anew all the time cannot be read, and the disk is never as full as it was."""
    async with opened("shop", drain_s=0.1) as (door, agent):
        shop = agent.apps["shop"]
        count = [0]

        async def summary() -> dict[str, Any]:
            count[0] += 1
            disk = {"free": 10**9 + 4096 * count[0], "total": 10**10}
            return {"app": "shop", "live": {"version": "v1", "release": "R"}, "running": True, "disk": disk}

        shop.summary = summary  # type: ignore[method-assign]
        async with dashboard("--host", f"http://{door.address}", home=tmp_path) as run:
            await browser.open(run.address)
            await browser.says("v1", "#hosts")
            await browser.run("getSelection().selectAllChildren(document.querySelector('#hosts .version'))")
            before = count[0]
            await until(lambda: count[0] > before + 3)
            assert await browser.run("return getSelection().toString()") == "v1"


async def test_an_agent_that_is_too_old_to_say_whether_an_app_is_healthy_is_shown_all_the_same(
    browser: Browser, tmp_path: Path
):
    async with opened("shop", drain_s=0.1) as (door, agent):
        shop = agent.apps["shop"]
        says(shop)

        async def unknown() -> dict[str, Any]:
            raise Refused(Code.BAD_REQUEST, "There is no such route")

        shop.health = unknown  # type: ignore[method-assign]
        async with dashboard("--host", f"http://{door.address}", home=tmp_path) as run:
            await browser.open(run.address)
            await browser.says("1 host, all well", "#hosts")
            await browser.says("v2", "#hosts")
