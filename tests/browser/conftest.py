"""A browser for the tests of one file, and agents in the loop of the test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.browser.browser import WIDE, Browser, browsing
from tests.host import Host, running


@pytest.fixture(scope="module")
def one_browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture
async def browser(one_browser: Browser) -> Browser:
    """The browser, as a person finds it who opens it: nothing remembered, wide, light."""
    await one_browser.open("about:blank")
    await one_browser.tell("Network.clearBrowserCookies", {})
    await one_browser.resize(*WIDE)
    await one_browser.scheme("light")
    await one_browser.messages()
    await one_browser.requests()
    return one_browser


@pytest.fixture
async def host(tmp_path: Path, uv_cache: Path, ready_venvs: Path) -> AsyncIterator[Host]:
    """A host with its agent running."""
    async with running(Host(tmp_path / "root", uv_cache=uv_cache, venvs=ready_venvs)) as found:
        yield found
