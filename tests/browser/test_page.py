"""The page of one agent, in a real browser: what it shows, as it happens, on any screen and without a mouse."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent.doors.http.routes import ROUTES
from pusher.wire import LogLine, Route
from pusher.wire.page import AGENT_FILES, AGENT_START, DASHBOARD_FILES, DASHBOARD_START
from tests.browser.browser import ENTER, NARROW, TAB, Browser
from tests.browser.markup import EVIL, hostile, roll_back_in_markup
from tests.deploy.simulated_agent import TIME, opened
from tests.docs.documents import REPOSITORY
from tests.host import APP, Host, hook, wsgi

BROKEN = {"app.py": "import shop\n", "requirements.txt": "gunicorn==22.0.0\n"}
ROWS = 10_000


def page_of(host: Host) -> str:
    return f"http://127.0.0.1:{host.door}/"


async def test_the_page_shows_what_is_live_and_where_it_came_from(browser: Browser, host: Host):
    await host.deploy(wsgi("v1"), "v1")
    await host.deploy(wsgi("v2"), "v2")
    await browser.open(page_of(host))
    await browser.says("healthy answered in", "#live")
    live = await browser.text("#live")
    assert live.split()[:2] == ["Live", "v2"]
    for words in ("by root (uid 0)", "tester", "v1 2026", "drift\nnone", " free of ", "gunicorn -w 1 app:app"):
        assert words in live.replace("\xa0", " "), live
    await browser.says("rollback target", "#releases")
    await browser.until("document.querySelectorAll('#history tbody tr').length === 2")
    await browser.says("Booting worker", "#log")
    await browser.says("Follows.", "#log")
    assert await browser.run("return document.querySelectorAll('#timeline rect').length") == 2
    assert await browser.run("return document.title") == f"{APP} on web1"
    # No error of a script, nothing that the policy refused, and nobody else was asked.
    assert await browser.messages() == []
    assert {url.split("/")[2] for url in await browser.requests()} == {f"127.0.0.1:{host.door}"}


async def test_a_deployment_is_seen_step_by_step_and_then_it_is_live(browser: Browser, host: Host):
    await host.deploy(wsgi("v1"), "v1")
    await browser.open(page_of(host))
    await browser.says("v1", "#live")
    gate = host.root / "go"
    waits = hook(f"echo migrating; while [ ! -e {gate} ]; do sleep 0.02; done")
    sending = asyncio.create_task(host.deploy(wsgi("v2") | {"hooks/before-symlink": waits}, "v2"))
    await browser.says("under way", "#deployment")
    await browser.says("before-symlink", "#deployment")
    await browser.until("document.querySelector('#deployment li.going')")
    await browser.says("before-symlink: migrating", "#deployment")
    gate.touch()
    await sending
    await browser.says("done v2", "#deployment .outcome")
    await browser.says("v2", "#live .big")
    steps = await browser.run("return [...document.querySelectorAll('#deployment li.done')].map(e => e.innerText)")
    assert [step.split()[0] for step in steps if not step.startswith("hook")] == [
        *(
            "unpack",
            "link-shared",
            "dependencies",
            "preflight",
            "switch",
            "restart",
            "confirm",
            "processes",
            "cleanup",
        )
    ]
    assert await browser.messages() == []


async def test_a_failed_deployment_shows_its_traceback_and_what_is_live_stays(browser: Browser, host: Host):
    await host.deploy(wsgi("v1"), "v1")
    await browser.open(page_of(host))
    await browser.says("v1", "#live")
    await host.send(BROKEN, "v2")
    await browser.says("failed v2", "#deployment .outcome")
    await browser.says("ModuleNotFoundError: No module named 'shop'", "#deployment pre")
    await browser.until("document.querySelector('#deployment li.failed').innerText.startsWith('preflight')")
    await browser.says("app:app does not import", "#history")
    assert (await browser.text("#live .big")).startswith("v1 ")
    await browser.click("#history tr:nth-child(2) button")
    await browser.says("done v1", "#deployment .outcome")


async def test_the_log_follows_and_can_be_of_one_unit(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        shop = agent.apps["shop"]
        shop.lines = [LogLine(TIME + at, "service", f"line {at}") for at in range(3)]
        await browser.open(f"http://{door.address}/")
        await browser.says("line 2", "#log")
        shop.news.put_nowait(LogLine(TIME, "service", "\x1b[31mred\x1b[0m and \x07 and \u202e"))
        await browser.says("red and \\u0007 and \\u202e", "#log")
        await browser.run(
            "const one = document.querySelector('#log select');"
            "one.value = 'hook'; one.dispatchEvent(new Event('change'))"
        )
        await browser.until("!document.querySelector('#log .log').innerText.includes('red')")
        assert ("log", 200, True, "hook") in shop.calls


async def test_the_page_says_when_the_agent_is_gone_and_goes_on_when_it_is_back(browser: Browser, host: Host):
    await host.deploy(wsgi("v1"), "v1")
    await browser.open(page_of(host))
    await browser.says("v1", "#live")
    await host.stop()
    await browser.says("No answer", ".notice")
    await host.start()
    await browser.until("document.querySelector('.notice').innerText === ''")
    await browser.says("healthy", "#live")


@pytest.mark.parametrize("ahead_h", [1, -1])
async def test_ages_are_by_the_clock_of_the_agent_whatever_this_machine_has(
    browser: Browser, host: Host, ahead_h: int
):
    await host.deploy(wsgi("v1"), "v1")
    wrong = f"const right = Date.now; Date.now = () => right() + {ahead_h * 3_600_000};"
    kept = await browser.tell("Page.addScriptToEvaluateOnNewDocument", {"source": wrong})
    try:
        await browser.open(page_of(host))
        await browser.says("v1", "#live")
        ages = await browser.until("[...document.querySelectorAll('#live time')].map(one => one.innerText)")
    finally:
        await browser.tell("Page.removeScriptToEvaluateOnNewDocument", kept)
    assert [one for one in ages if " h" in one or "min" in one] == []


async def test_a_host_with_several_apps_shows_each_and_what_is_wrong_with_one(browser: Browser, host: Host):
    await host.stop()
    host.add_app("shop")
    host.layout.app_toml("torn").write_text("nothing =\n")
    await host.start()
    await browser.open(page_of(host))
    await browser.until("document.querySelectorAll('nav a').length === 3")
    assert (await browser.text("nav")).split() == [APP, "shop", "torn"]
    await browser.click("nav a:nth-child(2)")
    await browser.says("Nothing is live yet", "#live")
    assert await browser.text("h1") == "shop on web1"
    await browser.click("nav a:nth-child(3)")
    await browser.says("torn", ".notice .problem")


async def test_names_logs_and_versions_are_shown_as_text_whatever_they_are(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        shop = agent.apps["shop"]
        hostile(shop)
        await roll_back_in_markup(door, shop)
        await browser.open(f"http://{door.address}/")
        await browser.says(EVIL, "#live .big")
        await browser.says(f"Nobody is told how deployments end: {EVIL}: {EVIL}", "#live")
        for part in ("#live .health", "#runs", "#releases", "#history", "#log"):
            await browser.says(EVIL, part)
        await browser.says(f"{EVIL}: {EVIL}", "#deployment")
        assert await browser.run("return [window.pwned ?? null, document.querySelectorAll('img').length]") == [
            None,
            0,
        ]
        refused = [one for one in await browser.messages() if "Security Policy" in one or "Trusted" in one]
        assert refused == []


async def test_the_page_is_usable_with_the_keyboard(browser: Browser, host: Host):
    await host.deploy(wsgi("v1"), "v1")
    await host.send(BROKEN, "v2")
    await browser.open(page_of(host))
    await browser.until("document.querySelectorAll('#history tbody tr').length === 2")
    await browser.press(TAB)
    assert await browser.run("return document.activeElement.innerText") == "To the content"
    await browser.press(ENTER)
    assert await browser.run("return document.activeElement.id") == "main"
    for _ in range(20):
        await browser.press(TAB)
        if await browser.run("return document.activeElement.innerText") == "v1":
            break
    # It can be seen where the focus is, and it stays there while the page is drawn anew.
    assert await browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await host.rollback()
    await browser.press(ENTER)
    await browser.says("done v1", "#deployment .outcome")
    assert await browser.run("return document.activeElement.innerText") == "v1"
    # The way to the content is a part of the address, and that is no reason to show nothing.
    await browser.open(f"{page_of(host)}#main")
    await browser.says("v1", "#live")


async def test_the_page_fits_a_narrow_screen_and_goes_dark(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        hostile(agent.apps["shop"])
        await roll_back_in_markup(door, agent.apps["shop"])
        await browser.open(f"http://{door.address}/")
        await browser.says(EVIL, "#deployment")
        await browser.says(EVIL, "#history")
        back = "getComputedStyle(document.body).backgroundColor"
        light = await browser.run(f"return {back}")
        await browser.scheme("dark")
        await browser.resize(*NARROW)
        assert await browser.run(f"return {back}") != light
        assert await browser.run("return document.documentElement.scrollWidth") <= NARROW[0]
        # What a table says is still there, a line a cell.
        assert "Outcome" in await browser.run(
            "return getComputedStyle(document.querySelector('#history td:nth-child(2)'), '::before').content"
        )


async def test_ten_thousand_deployments_are_found_and_paged_through(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        shop = agent.apps["shop"]
        head = {"records": 2 * ROWS, "head": "0" * 64, "problem": ""}

        async def records(*, after: int) -> AsyncIterator[bytes]:
            for number in range(after + 1, 2 * ROWS + 1):
                at = (number - 1) // 2
                one: dict[str, Any] = {"record": number, "app": "shop", "id": f"shop-2026{at:010}Z"}
                if number % 2:
                    one |= {
                        "what": "begun",
                        "kind": "deploy",
                        "version": f"v{at}",
                        "started": TIME + at,
                        "by": "x",
                    }
                else:
                    one |= {"what": "ended", "phase": "done", "finished": TIME + at + 1_000}
                yield json.dumps(one).encode()

        async def summary() -> dict[str, Any]:
            return {"app": "shop", "live": None, "history": head}

        shop.records, shop.summary = records, summary  # type: ignore[method-assign]
        await browser.open(f"http://{door.address}/")
        await browser.says(f"v{ROWS - 1}", "#history")
        await browser.says("1 to 25 of 200 or more", "#history .tools")
        await browser.type("#history input", "v123")
        await browser.says("1 to 11 of 11", "#history .tools")
        # Each further letter looks through all of them, and the page stays quick: it holds what is shown.
        took = await browser.run(
            "const i = document.querySelector('#history input'), began = performance.now();"
            "for (const one of ['v1', 'v12', 'v123', '']) { i.value = one; i.dispatchEvent(new Event('input')) }"
            "return new Promise(r => setTimeout(() => r(performance.now() - began)))"
        )
        assert took < 2_000
        await browser.says("1 to 25 of 10,000", "#history .tools")
        assert await browser.run("return document.querySelectorAll('#history tr').length") == 26
        await browser.click("#history .tools button:nth-of-type(2)")
        await browser.says("26 to 50 of 10,000", "#history .tools")


def test_all_files_of_the_page_are_small_together_and_are_all_there():
    folder = REPOSITORY / "pusher/wire/page"
    for files in ((AGENT_START, *AGENT_FILES), (DASHBOARD_START, *DASHBOARD_FILES)):
        sizes = {name: (folder / name).stat().st_size for name in files}
        assert sum(sizes.values()) < 60_000, sizes
    ours = {AGENT_START, DASHBOARD_START, *AGENT_FILES, *DASHBOARD_FILES, "__init__.py"}
    assert {one.name for one in folder.iterdir() if one.is_file()} == ours


def test_what_the_page_of_an_agent_is_made_of_cannot_change_anything():
    for name in (AGENT_START, *AGENT_FILES):
        text = (REPOSITORY / "pusher/wire/page" / name).read_text()
        assert "POST" not in text
        assert "DELETE" not in text
        assert "innerHTML" not in text
    page = [row for row in ROUTES if row.path in (Route.PAGE, Route.PAGE_FILE)]
    assert {row.method for row in page} == {"GET"}
