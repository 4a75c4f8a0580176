"""A real browser, driven: Debian's chromium, without a window, and without looking for anything in the network."""

import asyncio
import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
WIDE, NARROW = (1200, 900), (380, 800)
FAST = "const late = window.setTimeout; window.setTimeout = (f, ms, ...a) => late(f, ms / 50, ...a);"
"""What the page does in a minute, it does in about a second."""

_T = TypeVar("_T")


class Browser:
    """One window. Its calls block, so each runs in a thread: the agent is in the loop of the test."""

    def __init__(self, driver: WebDriver) -> None:
        self.driver = driver

    async def open(self, url: str) -> None:
        """Show a page, as if its address had been typed."""
        await _in_thread(lambda: self.driver.get("about:blank"))
        await _in_thread(lambda: self.driver.get(url))

    async def run(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return await _in_thread(lambda: self.driver.execute_script(script, *arguments))

    async def until(self, script: str, *arguments: Any, within_s: float = 15) -> Any:
        """Wait until an expression in the page is true, and return it."""
        began = time.monotonic()
        while not (found := await self.run(f"return {script}", *arguments)):
            assert time.monotonic() - began < within_s, f"{script}\n{await self.text()}\n{await self.messages()}"
            await asyncio.sleep(0.02)
        return found

    async def text(self, selector: str = "body") -> str:
        """What a person reads in a part of the page; empty if it is not there."""
        return str(await self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    async def says(self, words: str, selector: str = "body", *, within_s: float = 15) -> None:
        """Wait until a part of the page says this."""
        script = "(document.querySelector(arguments[0])?.innerText ?? '').includes(arguments[1])"
        await self.until(script, selector, words, within_s=within_s)

    async def click(self, selector: str) -> None:
        """Click what is there, as a person does."""
        await self.until("document.querySelector(arguments[0])", selector)
        while True:
            try:
                return await _in_thread(lambda: self.driver.find_element(By.CSS_SELECTOR, selector).click())
            except StaleElementReferenceException:
                continue  # it was drawn anew between the two words of the driver

    async def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        await _in_thread(lambda: self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(text))

    async def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        await _in_thread(lambda: webdriver.ActionChains(self.driver).send_keys(*keys).perform())

    async def resize(self, wide: int, high: int) -> None:
        """Let the page have this size."""
        metrics = {"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": False}
        await self.tell("Emulation.setDeviceMetricsOverride", metrics)

    async def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        await self.tell("Emulation.setEmulatedMedia", {"media": "screen", "features": features})

    async def tell(self, command: str, parameters: dict[str, Any]) -> Any:
        """A command of the DevTools protocol."""
        return await _in_thread(lambda: self.driver.execute_cdp_cmd(command, parameters))

    async def shoot(self, file: Path) -> None:
        """A picture of what can be seen."""
        await _in_thread(lambda: self.driver.save_screenshot(str(file)))

    async def print(self, wide: int, high: int) -> bytes:
        """The page on one sheet of so many pixels, as PDF: as on the screen, once `scheme` was called."""
        inches = {"paperWidth": wide / 96, "paperHeight": high / 96}
        margins = dict.fromkeys(("marginTop", "marginBottom", "marginLeft", "marginRight"), 0)
        options = {"printBackground": True, "pageRanges": "1", **inches, **margins}
        return base64.b64decode((await self.tell("Page.printToPDF", options))["data"])

    async def messages(self) -> list[str]:
        """What the browser itself complained about since it was asked last: errors of scripts, refused content."""
        found = await _in_thread(lambda: self.driver.get_log("browser"))
        return [str(one["message"]) for one in found]

    async def requests(self) -> list[str]:
        """The addresses that the browser asked since this was asked last."""
        found = await _in_thread(lambda: self.driver.get_log("performance"))
        events = [json.loads(one["message"])["message"] for one in found]
        return [
            str(one["params"]["request"]["url"]) for one in events if one["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser, which ends with the block."""
    os.environ["SE_OFFLINE"] = "true"
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
        "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP agent 127.0.0.1",
        f"--window-size={WIDE[0]},{WIDE[1]}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


async def _in_thread(call: Callable[[], _T]) -> _T:
    return await asyncio.to_thread(call)


TAB, ENTER, ESCAPE = Keys.TAB, Keys.ENTER, Keys.ESCAPE
