"""`pusher dashboard` as a command: what it opens, what it refuses to begin with, and how it ends."""

import asyncio
import os
import socket
import sys
from pathlib import Path

import aiohttp

from tests.browser.dashboards import dashboard

NOBODY = ("--host", "http://127.0.0.1:1")


async def ended(*words: str, folder: Path) -> tuple[int | None, str]:
    """Exit code and output of a run that cannot begin."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pusher", "dashboard", *words),
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        stdout=-1,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_without_hosts_and_without_a_repository_there_is_nothing_to_show(tmp_path: Path):
    code, said = await ended(folder=tmp_path)
    assert code == 2
    assert "There is nothing to show" in said


async def test_a_port_that_is_not_free_is_named(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        code, said = await ended(*NOBODY, "--port", str(port), folder=tmp_path)
    assert code == 2
    assert f"Port {port} cannot be used: Address already in use" in said


async def test_the_browser_gets_an_address_that_is_good_once_and_the_terminal_one_that_stays(tmp_path: Path):
    opened, script = tmp_path / "opened", tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >{opened}.new; mv {opened}.new {opened}\n')
    script.chmod(0o755)
    variables = {"DISPLAY": ":0", "BROWSER": f"{script} %s"}
    async with (
        dashboard(*NOBODY, home=tmp_path, quietly=False, **variables) as run,
        aiohttp.ClientSession() as session,
    ):
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(opened.exists):  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)
        once = (await asyncio.to_thread(opened.read_text)).strip()
        assert once != run.address

        async def status(url: str) -> int:
            async with session.get(url, allow_redirects=False) as answer:
                return answer.status

        assert [await status(url) for url in (once, once, run.address, run.address)] == [303, 403, 303, 303]
        said = await run.said()
    assert said.startswith("Only your browser can use it, with this address. Ctrl-C ends it\n")
    assert "refused GET: it has a wrong secret, or one that was used" in said


async def test_a_flood_of_refusals_does_not_fill_the_terminal(tmp_path: Path):
    async with dashboard(*NOBODY, home=tmp_path) as run, aiohttp.ClientSession() as session:
        for at in range(60):
            async with session.get(run.origin + "/", headers={"Origin": f"http://{at}.example"}) as answer:
                assert answer.status == 403
        said = (await run.said()).splitlines()
    assert len([line for line in said if line.startswith("refused GET")]) == 49
    assert said.count("more was refused, and is not shown any more") == 1


async def test_a_page_that_was_left_open_is_named_once_however_often_it_asks(tmp_path: Path):
    async with dashboard(*NOBODY, home=tmp_path) as run, aiohttp.ClientSession() as session:
        for _ in range(5):
            async with session.get(run.origin + "/all") as answer:
                assert answer.status == 403
        said = await run.said()
    assert said.count("refused GET: it does not have the cookie of this run") == 1
