"""Pictures of the page, for people who want to see it before they install anything: `make pictures`.

Those of the documents are text and stand in `docs/pictures/`. The others are made of pixels, which the project
does not keep: they go to `dist/pictures/`. What the page weighs and how soon it is there is printed with them.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from pusher.fleet.inventory import adopt
from pusher.wire.channel import Rollout, report_name
from pusher.wire.page import AGENT_FILES, AGENT_START, DASHBOARD_FILES, DASHBOARD_START
from pusher.wire.report import Named
from tests.browser.browser import NARROW, WIDE, Browser, browsing
from tests.browser.dashboards import dashboard
from tests.browser.prints import draw
from tests.conftest import make_venv
from tests.docs.documents import REPOSITORY
from tests.host import APP, Host, hook, make_key, running, wsgi
from tests.publishing import Publisher
from tests.reporting import Reporting

PICTURES = REPOSITORY / "dist/pictures"
DRAWN = REPOSITORY / "docs/pictures"
PAGE = REPOSITORY / "pusher/wire/page"
BROKEN = {"app.py": "import shop\n", "requirements.txt": "gunicorn==22.0.0\n"}
FIRST = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
FLEET = 40
COLUMN = 960
"""Pixels: in a column of text, words of a wider picture could not be read."""


async def main() -> int:
    """Take every picture; print what the page weighs and takes."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pusher-pictures-") as folder, browsing() as browser:
        place = Path(folder)
        venvs = await asyncio.to_thread(ready, place)
        async with started(place, "web1", venvs) as web1, started(place, "web2", venvs) as web2:
            await one_host(browser, web1)
            await several_hosts(browser, place, web1, web2)
            await a_fleet(browser, place)
    for name, files in ((AGENT_START, AGENT_FILES), (DASHBOARD_START, DASHBOARD_FILES)):
        size = sum((PAGE / one).stat().st_size for one in (name, *files))
        print(f"{name}: {size / 1000:.1f} kB in {len(files) + 1} files")
    return 0


@asynccontextmanager
async def started(folder: Path, name: str, venvs: Path) -> AsyncIterator[Host]:
    """A host with an agent."""
    async with running(Host(folder / name, uv_cache=folder / "cache", venvs=venvs, name=name)) as found:
        yield found


def ready(folder: Path) -> Path:
    """The venv that the small applications need, to be copied. Blocking."""
    for name in ("cache", "source", "app"):
        (folder / name).mkdir()
    (folder / "source/requirements.txt").write_text("gunicorn==22.0.0\n")
    return make_venv(folder / "source", cache=folder / "cache", app=folder / "app").parent


async def one_host(browser: Browser, web1: Host) -> None:
    """The page of an agent: as it is, while a deployment runs, after one that failed; dark and narrow."""
    url = f"http://127.0.0.1:{web1.door}/"
    for version in ("v1", "v2", "v3"):
        await web1.deploy(wsgi(version), version)
    await browser.resize(WIDE[0], 1500)
    firsts = []
    for _ in range(5):
        await browser.open(url)
        await browser.says("healthy", "#live")
        firsts.append(await browser.run(FIRST))
    print(f"first picture after {sorted(firsts)[len(firsts) // 2]:.0f} ms (median of {len(firsts)})")
    await take(browser, "agent")
    gate = web1.root / "go"
    waits = hook(f"echo migrating; while [ ! -e {gate} ]; do sleep 0.02; done")
    sending = asyncio.create_task(web1.deploy(wsgi("v4") | {"hooks/before-symlink": waits}, "v4"))
    await browser.says("migrating", "#deployment")
    await take(browser, "agent-deploying")
    await browser.scheme("dark")
    await keep(
        browser, "page-dark", COLUMN, "the page while a version is being deployed, dark", before="#releases"
    )
    await browser.scheme("light")
    await browser.resize(WIDE[0], 1500)
    gate.touch()
    await sending
    await web1.send(BROKEN, "v5")
    await browser.says("ModuleNotFoundError", "#deployment")
    await browser.says("failed", "#history")
    await take(browser, "agent-failed")
    await browser.scheme("dark")
    await take(browser, "agent-dark")
    await browser.resize(NARROW[0], 2400)
    await take(browser, "agent-narrow")
    # The log stays out of the pictures of the documents: it names folders of this machine.
    await keep(browser, "page-narrow", NARROW[0], "the page on a narrow screen", before="#releases")
    await browser.scheme("light")
    title = "the page of a host: a version is live, the next one was refused"
    await keep(browser, "page-light", COLUMN, title, before="#history")


async def several_hosts(browser: Browser, folder: Path, web1: Host, web2: Host) -> None:
    """The dashboard of two hosts and of one that does not answer; and a rollback about to be confirmed."""
    await web2.deploy(wsgi("v3"), "v3")
    places = {"web1": web1.door, "web2": web2.door, "web3": 1}
    text = "".join(f'[hosts.{name}]\naddress = "http://127.0.0.1:{door}"\n' for name, door in places.items())
    await asyncio.to_thread((folder / "pusher.toml").write_text, text)
    await browser.resize(WIDE[0], 500)
    async with dashboard(home=folder) as run:
        await browser.open(run.address)
        await browser.says("2 unwell", "#hosts")
        await take(browser, "dashboard")
        await keep(browser, "dashboard", COLUMN, "two hosts, and one that does not answer")
        await browser.resize(*WIDE)
        await browser.click("#hosts tbody tr:nth-child(3) a")
        await browser.says("v3", "#live .big")
        await browser.click("#releases tbody tr:nth-child(1) button")
        await take(browser, "dashboard-confirm")


async def a_fleet(browser: Browser, folder: Path) -> None:
    """The dashboard of a fleet in the middle of a rollout."""
    key = folder / "key"
    await asyncio.to_thread(make_key, key)
    publisher = await asyncio.to_thread(partial(Publisher, folder / "repo", key=key))
    await asyncio.to_thread(publisher.trust, folder / "signers")
    target = await asyncio.to_thread(publisher.put, {"app.py": ""}, "v5")
    rollout = Rollout(waves=(("web01", "web02"), 25, 100), open=2, max_failed=3)
    await asyncio.to_thread(partial(publisher.name, target, rollout=rollout))
    await asyncio.to_thread(report, folder, publisher, Named(target.release.manifest, "v5"))
    words = ("--repository", str(publisher.folder), "--signers", str(folder / "signers"), "--app", APP)
    await browser.resize(WIDE[0], 1100)
    async with dashboard(*words, home=folder) as run:
        await browser.open(run.address)
        await browser.says(f"{FLEET} hosts", "#fleet")
        await take(browser, "fleet")


def report(folder: Path, publisher: Publisher, wanted: Named) -> None:
    """Let every host of a fleet say something. Blocking."""
    (folder / "hosts").mkdir()
    for at in range(1, FLEET + 1):
        name = f"web{at:02}"
        one = Reporting(folder / "hosts", name)
        adopt(folder / "fleet.allowed", one.identity.public())
        members: dict[str, object] = {"wanted": wanted, "attempt": 1, "live": Named("0b" * 32, "v4")}
        if at == 7:
            problem = {"title": "app:app does not import", "detail": "ModuleNotFoundError: No module named 'shop'"}
            members |= {"state": "failed", "problem": problem}
        elif at % 4 == 0 or at < 3:
            members |= {"state": "current", "live": wanted}
        else:
            members |= {"state": "waiting", "awaited": "wave"}
        if at != 33:
            path = publisher.folder / report_name(APP, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(one.signed(**members))


async def take(browser: Browser, name: str) -> None:
    """One picture."""
    file = PICTURES / f"{name}.png"
    await browser.shoot(file)
    print(file.relative_to(REPOSITORY))


async def keep(browser: Browser, name: str, wide: int, title: str, *, before: str | None = None) -> None:
    """One picture of the documents."""
    file = DRAWN / f"{name}.svg"
    text = await draw(browser, wide, title=title, before=before)
    await asyncio.to_thread(file.write_text, text)
    print(file.relative_to(REPOSITORY))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
