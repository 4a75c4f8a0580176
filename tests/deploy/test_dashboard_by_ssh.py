"""`pusher dashboard` reaches a host as every command does: by ssh, over few connections; or says why not."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.browser.dashboards import Run, dashboard
from tests.host import APP, Host, wsgi
from tests.sshd import MISSING, USER, Server

pytestmark = [pytest.mark.root, pytest.mark.skipif(MISSING, reason="sshd can only be run by root")]


class Page:
    """What the page of a run asks, with its cookie."""

    def __init__(self, run: Run, session: aiohttp.ClientSession) -> None:
        self.run = run
        self._session = session

    async def ask(self, path: str, **members: Any) -> tuple[int, dict[str, Any]]:
        own = {"Origin": self.run.origin, "Sec-Fetch-Site": "same-origin"}
        method = "POST" if members else "GET"
        async with self._session.request(
            method, self.run.origin + path, json=members or None, headers=own
        ) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def page(host: Host, server: Server, tmp_path: Path) -> AsyncIterator[Page]:
    """The page of a run that goes through a real sshd, to two hosts, of which one is not there."""
    server.admit(f'restrict,port-forwarding,permitopen="127.0.0.1:{host.door}"')
    log = tmp_path / "ssh.log"
    wrapper = tmp_path / "counted-ssh"
    wrapper.write_text(f'#!/bin/sh\necho once >>{log}\nexec {server.ssh} "$@"\n')
    wrapper.chmod(0o755)
    (tmp_path / "pusher.toml").write_text(
        f'ssh = "{wrapper}"\n'
        f'[hosts.web1]\naddress = "ssh://{USER}@127.0.0.1:{server.port}"\ndoor = "127.0.0.1:{host.door}"\n'
        f'[hosts.web2]\naddress = "ssh://{USER}@127.0.0.1:1"\n'
    )
    jar = aiohttp.CookieJar(unsafe=True)
    async with dashboard(home=tmp_path) as run, aiohttp.ClientSession(cookie_jar=jar) as session:
        async with session.get(run.address) as answer:
            assert answer.status == 200
        yield Page(run, session)


async def test_a_host_is_watched_and_rolled_back_by_ssh(page: Page, host: Host, tmp_path: Path):
    await host.deploy(wsgi("v1"), "v1")
    first = (await host.request("GET", "/status"))[1]["live"]["release"]
    await host.deploy(wsgi("v2"), "v2")
    live = (await host.request("GET", "/status"))[1]["live"]["release"]
    number, hosts = 0, []
    async with asyncio.timeout(30):
        while not hosts or not all(one["asked"] for one in hosts):
            _, found = await page.ask(f"/all?after={number}")
            number, hosts = found["number"], found["hosts"]
    (app,) = hosts[0]["apps"]
    assert (app["live"]["version"], app["live"]["signed_by"], app["running"]) == ("v2", "tester", True)
    assert hosts[1]["problem"]["title"] == "web2 cannot be reached"
    for _ in range(10):
        assert (await page.ask(f"/hosts/0/apps/{APP}/health"))[1]["healthy"]
    status, begun = await page.ask(f"/hosts/0/apps/{APP}/rollback", release=first, leaving=live, typed="v1")
    assert status == 200, begun
    assert (await host.events(begun["deployment"]))[-1]["outcome"] == "done"
    assert await host.serving() == "v1"
    # To connect by ssh takes longer than to ask: what is open is used again.
    log = await asyncio.to_thread((tmp_path / "ssh.log").read_text)
    assert log.count("once") < 10, log
