"""A person who reads the page, for a minute or for days: nothing takes away what they select, read or hear."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agent.doors.http.server import HttpDoor
from pusher.wire import Code, Happened, LogLine, Refused, format_timestamp
from tests.browser.browser import FAST, NARROW, Browser
from tests.deploy.simulated_agent import TIME, SimulatedApp, SimulatedDeployment, opened, until

COUNTED = """
window.listeners = 0;
const add = EventTarget.prototype.addEventListener, remove = EventTarget.prototype.removeEventListener;
EventTarget.prototype.addEventListener = function (...a) {
  if (this instanceof AbortSignal) window.listeners += 1; return add.apply(this, a); };
EventTarget.prototype.removeEventListener = function (...a) {
  if (this instanceof AbortSignal) window.listeners -= 1; return remove.apply(this, a); };
"""
HEARD = """
window.heard = [];
const watch = new MutationObserver((all) => all.forEach(({target}) => {
  const at = target.nodeType === 1 ? target : target.parentElement;
  if (at?.closest('[role=status], [role=alert], [aria-live=polite]')) window.heard.push(at.innerText);
}));
watch.observe(document.body, {subtree: true, childList: true, characterData: true});
"""
LINES = "document.querySelector('#log .log')"
PRE = "document.querySelector('#deployment details pre')"
LONG = "\n".join(f"line {at} of a traceback that goes on and on" for at in range(60))


@contextmanager
def asked(shop: SimulatedApp, **members: Any) -> Iterator[list[int]]:
    """Let an app say this; the list has how often it was asked."""
    count = [0]

    async def summary() -> dict[str, Any]:
        count[0] += 1
        if isinstance(members.get("refusal"), Refused):
            raise members["refusal"]
        disk = {"free": 10**9 + count[0] * 4096, "total": 10**10}
        live = {"version": "v1", "release": "20261128010203Z", "signed_by": "alice@example.com"}
        return {"app": "shop", "host": "web1", "live": live, "running": True, "disk": disk, **members}

    shop.summary = summary  # type: ignore[method-assign]
    yield count


@pytest.fixture
async def fast(browser: Browser) -> Any:
    """The browser, in which time passes more quickly, and listeners are counted."""
    kept = await browser.tell("Page.addScriptToEvaluateOnNewDocument", {"source": FAST + COUNTED})
    yield browser
    await browser.tell("Page.removeScriptToEvaluateOnNewDocument", kept)


async def deploying(door: HttpDoor, shop: SimulatedApp) -> SimulatedDeployment:
    """A deployment that goes on until a test says something else."""
    one = SimulatedDeployment("shop-1", "shop")
    one.publish(Happened.STARTED, kind="deploy", version="v2", by="alice")
    one.publish(Happened.STEP_STARTED, step="unpack")
    shop.deployments.append(one)
    return one


async def test_what_is_selected_stays_while_the_page_asks_on(fast: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        with asked(agent.apps["shop"]) as count:
            await fast.open(f"http://{door.address}/")
            await fast.says("20261128010203Z", "#live")
            await fast.run("getSelection().selectAllChildren(document.querySelector('#live .big'))")
            before = count[0]
            await until(lambda: count[0] > before + 5)
            assert await fast.run("return getSelection().toString()") == "v1 20261128010203Z"
            # What changes all the time is shown nevertheless.
            await fast.says("1.0 GB free of 10 GB", "#live")


async def test_only_what_changes_is_read_aloud(fast: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        shop = agent.apps["shop"]
        with asked(shop) as count:
            await fast.open(f"http://{door.address}/")
            await fast.says("healthy answered in", "#live")
            await fast.says("None", "#history")
            await fast.run(HEARD)
            before = count[0]
            await until(lambda: count[0] > before + 12)  # also the health was asked for again, twice
            assert await fast.run("return window.heard") == []
        with asked(shop, refusal=Refused(Code.BUSY, "The host is busy", hint="Wait")) as count:
            await until(lambda: count[0] > 5)
            assert await fast.run("return window.heard") == ["The host is busy Wait"]


async def test_a_page_that_is_open_for_days_does_not_grow(fast: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        with asked(agent.apps["shop"]) as count:
            await fast.open(f"http://{door.address}/")
            await until(lambda: count[0] > 5)
            before = await fast.run("return window.listeners")
            seen = count[0]
            await until(lambda: count[0] > seen + 40, deadline_s=30)
            assert await fast.run("return window.listeners") <= before + 10


async def test_the_output_of_a_hook_can_be_read_while_the_deployment_goes_on(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        shop = agent.apps["shop"]
        one = await deploying(door, shop)
        for at in range(100):
            one.publish(Happened.OUTPUT, source="before-symlink", text=f"table {at}")
        with asked(shop, deploying=one.summary()):
            await browser.open(f"http://{door.address}/")
            await browser.says("table 99", "#deployment pre")
            await browser.run(f"{PRE}.scrollTop = 40")
            one.publish(Happened.OUTPUT, source="before-symlink", text="table 100")
            await browser.says("table 100", "#deployment pre")
            assert await browser.run(f"return {PRE}.scrollTop") == 40
            # At the end, it stays at the end.
            await browser.run(f"{PRE}.scrollTop = 99999")
            one.publish(Happened.OUTPUT, source="before-symlink", text="table 101")
            await browser.says("table 101", "#deployment pre")
            assert await browser.run(f"return {PRE}.scrollTop + {PRE}.clientHeight >= {PRE}.scrollHeight - 1")
            # Closed, it stays closed.
            await browser.click("#deployment summary")
            one.publish(Happened.OUTPUT, source="before-symlink", text="table 102")
            await browser.says("lines: 103", "#deployment summary")
            assert not await browser.run("return document.querySelector('#deployment details').open")
            assert await browser.run("return document.activeElement.localName") == "summary"


async def test_who_scrolls_back_in_the_log_stays_there_and_who_returns_to_its_end_follows(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        shop = agent.apps["shop"]
        shop.lines = [LogLine(TIME + at, "service", f"line {at}.") for at in range(150)]
        await browser.open(f"http://{door.address}/")
        await browser.says("line 149.", "#log")
        await browser.until(f"{LINES}.scrollTop > 100")
        await browser.run(f"{LINES}.scrollTop = 50")
        await browser.until("!document.getElementById('log-follow').checked")
        shop.news.put_nowait(LogLine(TIME + 200, "service", "a new line"))
        await browser.says("a new line", "#log")
        assert await browser.run(f"return {LINES}.scrollTop") == 50
        await browser.run(f"{LINES}.scrollTop = 99999")
        await browser.until("document.getElementById('log-follow').checked")
        shop.news.put_nowait(LogLine(TIME + 201, "service", "the newest"))
        await browser.says("the newest", "#log")
        assert await browser.run(f"return {LINES}.scrollTop + {LINES}.clientHeight >= {LINES}.scrollHeight - 8")


async def hide(browser: Browser, hidden: bool) -> None:
    """Let another tab be in front of the page, or not."""
    await browser.run(
        "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))",
        hidden,
    )


async def test_the_log_goes_on_where_it_was_when_a_person_comes_back_to_the_page(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        shop = agent.apps["shop"]
        shop.lines = [LogLine(TIME + at, "service", f"line {at}.") for at in range(150)]
        await browser.open(f"http://{door.address}/")
        await browser.says("line 149.", "#log")
        await browser.run(f"{LINES}.scrollTop = 50")
        await browser.until("!document.getElementById('log-follow').checked")
        await hide(browser, True)
        await until(lambda: shop.readers == 0)
        shop.lines += [LogLine(TIME + at, "service", f"line {at}.") for at in range(150, 160)]
        await hide(browser, False)
        await browser.says("line 159.", "#log")
        texts = f"return [...{LINES}.children].map(e => e.innerText.replace(/^.*service line/, 'line'))"
        assert await browser.run(texts) == [f"line {at}." for at in range(160)]
        assert await browser.run(f"return {LINES}.scrollTop") == 50
        # More than is read again was written: the page says so.
        await hide(browser, True)
        await until(lambda: shop.readers == 0)
        shop.lines += [LogLine(TIME + at, "service", f"line {at}.") for at in range(160, 900)]
        await hide(browser, False)
        await browser.says("line 899.", "#log")
        assert (await browser.run(texts))[159:162] == [
            *("line 159.", "... lines in between were not read ...", "line 700.")
        ]


async def test_five_thousand_lines_of_the_log_can_be_read_back(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        shop = agent.apps["shop"]
        shop.lines = [LogLine(TIME + at, "service", f"line {at}.") for at in range(6000)]
        await browser.open(f"http://{door.address}/")
        await browser.says("line 5999.", "#log")
        count = f"{LINES}.childElementCount"
        assert await browser.run(f"return {count}") == 200
        await browser.click("#log button")
        await browser.until(f"{count} === 1000")
        await browser.click("#log button")
        await browser.until(f"{count} === 5000")
        assert (await browser.run(f"return {LINES}.firstChild.innerText")).endswith("line 1000.")
        assert await browser.run("return document.querySelector('#log button').disabled")
        # Who follows keeps no more than what was asked for, however much is written.
        for at in range(6000, 6100):
            shop.news.put_nowait(LogLine(TIME + at, "service", f"line {at}."))
        await browser.says("line 6099.", "#log")
        assert await browser.run(f"return {count}") == 5000


async def test_a_long_reason_is_shown_shortly_and_whole_to_who_opens_it(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        with asked(agent.apps["shop"], trouble=LONG, warnings=["short"]) as count:
            await browser.open(f"http://{door.address}/")
            await browser.says("line 0 of a traceback", "#live")
            assert "line 59" not in await browser.text("#live")
            await browser.click("#live summary")
            await browser.says("line 59 of a traceback", "#live pre")
            before = count[0]
            await until(lambda: count[0] > before + 1)
            assert await browser.run("return document.querySelector('#live details').open")
            await browser.resize(*NARROW)
            assert await browser.run("return document.documentElement.scrollWidth") <= NARROW[0]


async def test_a_reason_of_ten_thousand_letters_without_a_space_widens_no_table(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        row = {"deployment": "shop-1", "kind": "deploy", "version": "v2", "release": "R", "outcome": "failed"}
        row |= {"by": "alice", "started": format_timestamp(TIME), "ms": 5, "problem": {"title": 10_000 * "x"}}

        async def releases() -> dict[str, Any]:
            return {"releases": [], "deployments": [row]}

        agent.apps["shop"].releases = releases  # type: ignore[method-assign]
        await browser.open(f"http://{door.address}/")
        await browser.says("xxx", "#history")
        table = "document.querySelector('#history .table')"
        assert await browser.run(f"return {table}.scrollWidth <= {table}.clientWidth")


async def test_an_app_that_root_adds_appears_on_the_page(fast: Browser):
    async with opened(drain_s=0.1) as (door, agent):
        await fast.open(f"http://{door.address}/")
        await fast.says("pusher-agent app add NAME")
        agent.apps["shop"] = SimulatedApp("shop")
        await fast.says("Nothing is live yet", "#live")
        agent.apps["stock"] = SimulatedApp("stock")
        await fast.until("document.querySelectorAll('nav a').length === 2")
        assert await fast.text("h1") == "shop on web1"


async def test_an_address_that_cannot_be_read_shows_the_first_app(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, _):
        await browser.open(f"http://{door.address}/#/%E0%A4%A")
        await browser.says("Nothing is live yet", "#live")
        assert await browser.messages() == []


async def test_a_deployment_that_the_host_forgot_is_not_under_way(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        with asked(agent.apps["shop"], last={"deployment": "shop-7"}):
            await browser.open(f"http://{door.address}/")
            await browser.says("not known", "#deployment .outcome")
            await browser.says("Its steps are not kept any more", "#deployment")
