"""`pusher dashboard` of a fleet of a thousand hosts, from signed reports: what is read first, and that it can be
read while all of them report again.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from pusher.wire.channel import Rollout
from tests.browser.browser import ENTER, FAST, NARROW, TAB, Browser
from tests.browser.dashboards import dashboard
from tests.browser.fleets import Fleet
from tests.browser.markup import EVIL
from tests.publishing import Publisher

HOSTS = 1_000
REASON = f"{EVIL} app:app does not import: " + "a reason that goes on " * 10
TEXTS = "[...document.querySelectorAll(arguments[0])].map(one => one.innerText.trim())"
ROWS = "#fleet tbody tr"


def name(at: int) -> str:
    return f"web{at:04}.a-long-name-of-a-rack-in-a-hall.of-some-place.example"


def members(at: int, fleet: Fleet) -> dict[str, Any]:
    """What a host says: a few of each kind are not as they should be."""
    now = int(time.time() * 1000)
    if at % 50 == 7:
        return {"created": now, "state": "failed", "problem": {"title": REASON, "detail": f"on {at}"}}
    if at % 100 == 11:
        return {"created": now, "state": "held"}
    if at % 100 == 13:
        return {"created": now - 3 * 3_600_000, "state": "current", "live": fleet.wanted}
    if at % 2:
        return {"created": now, "state": "waiting", "awaited": "wave"}
    return {"created": now, "state": "current", "live": fleet.wanted}


def reported(fleet: Fleet) -> None:
    """Let all of them report but the last one, which never did. Blocking."""
    fleet.report({name(at): members(at, fleet) for at in range(HOSTS - 1)})


@pytest.fixture
async def fleet(tmp_path: Path, publisher: Publisher) -> Fleet:
    def made() -> Fleet:
        found = Fleet(tmp_path, publisher, Rollout(waves=(1, 10, 100), open=2, max_failed=50))
        found.adopt(*map(name, range(HOSTS)))
        reported(found)
        return found

    return await asyncio.to_thread(made)


async def test_a_thousand_hosts_are_counted_first_and_each_that_is_not_well_is_named_with_its_reason(
    browser: Browser, fleet: Fleet
):
    async with dashboard(*fleet.words, home=fleet.folder) as run:
        await browser.open(run.address)
        await browser.says("1,000 hosts, 41 unwell", "#fleet [role=status]")
        counts = await browser.run(f"return {TEXTS}", "#fleet ol:first-of-type li")
        assert counts == [
            *("current 500 on v2", "waiting 459 on v1", "failed 20 on v1", "held 10 on v1", "silent 10 on v2"),
            "silent 1",
        ]
        # All of that, and the first who failed, can be read without scrolling.
        first = "document.querySelector('#fleet tbody tr').getBoundingClientRect().bottom"
        assert await browser.run(f"return {first}") < await browser.run("return innerHeight")
        states = await browser.run(f"return {TEXTS}", f"{ROWS} td:nth-child(2)")
        named = ["failed"] * 20 + ["held"] * 10 + ["silent"] * 11
        assert states == named + ["waiting"] * (50 - len(named))
        await browser.says("and 950 hosts more: pusher fleet status --state STATE", "#fleet")
        whys = await browser.run(f"return {TEXTS}", f"{ROWS} td:nth-child(4)")
        assert whys[0].startswith(EVIL[:100])
        assert len(whys[0]) < 150
        assert whys[30] == "for 3 h"
        assert whys[40] == "it never reported"
        assert await browser.run("return [window.pwned ?? null, document.images.length]") == [None, 0]
        # The whole reason is there for the keyboard.
        await browser.press(TAB, TAB, ENTER)
        await browser.says("on 7", "#fleet details[open] pre")
        await browser.scheme("dark")
        await browser.resize(*NARROW)
        assert await browser.run("return document.documentElement.scrollWidth") <= NARROW[0]
        # A name or a version that is missing is no line of a card.
        cells = await browser.run(f"return {TEXTS}", f"{ROWS} td:not(:empty)")
        assert all(cells)
        assert await browser.messages() == []


async def test_who_reads_a_reason_is_not_disturbed_when_a_thousand_hosts_report_again(
    browser: Browser, fleet: Fleet
):
    kept = await browser.tell("Page.addScriptToEvaluateOnNewDocument", {"source": FAST})
    async with dashboard(*fleet.words, home=fleet.folder) as run:
        await browser.open(run.address)
        await browser.tell("Page.removeScriptToEvaluateOnNewDocument", kept)
        await browser.says("1,000 hosts, 41 unwell", "#fleet [role=status]")
        await browser.run("window.row = document.querySelector('#fleet tbody tr')")
        await browser.run("getSelection().selectAllChildren(row.querySelector('td'))")
        # What cannot be read for a while does not take away what was seen.
        channels = fleet.publisher.folder / "channels"
        away = await asyncio.to_thread(channels.rename, channels.with_name("away"))
        await asyncio.to_thread(channels.write_text, "no folder")
        await browser.says("Could not read channels", "#fleet [role=status]")
        # All say the same again, but for one that goes on: the counts move, and the reasons do not.
        await asyncio.to_thread(reported, fleet)
        await asyncio.to_thread(fleet.report, {name(HOSTS - 2): {"state": "deploying"}})
        await asyncio.to_thread(channels.unlink)
        await asyncio.to_thread(away.rename, channels)
        await browser.says("deploying 1 on v1", "#fleet")
        await browser.says("1,000 hosts, 41 unwell", "#fleet [role=status]")
        assert await browser.run("return row.isConnected && getSelection().toString().trim()") == name(7)
