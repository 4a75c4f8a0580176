"""A picture of the page that is text: chromium prints what is on its screen, poppler turns the print into an SVG.

Invariant: a picture needs no font (its letters are outlines) and names no other address.
"""

import asyncio
import re
import subprocess
from html import escape

from tests.browser.browser import Browser

STEP = 8
"""Paper is cut in 1/300 inch, and what does not fit exactly is printed smaller. So many pixels are 25 of these."""

TOP = "return Math.floor(document.querySelector(arguments[0]).getBoundingClientRect().top)"
BOTTOM = "return Math.ceil(document.body.getBoundingClientRect().bottom)"


async def draw(browser: Browser, wide: int, *, title: str, before: str | None = None) -> str:
    """The page that the browser shows as SVG, `wide` pixels wide (made a multiple of STEP), from its top to the
    element of the selector `before`, or to its end.
    """
    wide = -(-wide // STEP) * STEP
    # Without a scrollbar, the page on the screen is as wide as the one on paper.
    await browser.resize(wide, 6000)
    if before is None:
        high = -(-await browser.run(BOTTOM) // STEP) * STEP
    else:
        high = await browser.run(TOP, before) // STEP * STEP
    pdf = await browser.print(wide, high)
    return await asyncio.to_thread(_drawn, pdf, title)


def _drawn(pdf: bytes, title: str) -> str:
    svg = _through(("pdftocairo", "-svg", "-", "-"), pdf).decode()
    words = ("scour", "--quiet", "--enable-id-stripping", "--shorten-ids", "--create-groups", "--strip-xml-prolog")
    return titled(_through((*words, "--indent=none"), shortened(svg).encode()).decode(), title)


def _through(command: tuple[str, ...], given: bytes) -> bytes:
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout


def shortened(svg: str) -> str:
    """An SVG of poppler without what cannot be seen: each letter as one path, with two decimals; elsewhere one.

    Blanks have no path.
    """
    blanks = {*re.findall(r'<symbol overflow="visible" id="([^"]+)">\n<path [^>]*\bd=""/>', svg)}
    svg = re.sub(r'<use xlink:href="#([^"]+)"[^>]*>', lambda use: "" if use[1] in blanks else use[0], svg)
    svg = re.sub(r'( [xy]="\d+\.\d)\d+', r"\1", svg)
    letters, end, others = svg.rpartition("</symbol>")
    svg = _with_decimals(letters, 2) + end + _with_decimals(others, 1)
    return re.sub(r'<symbol overflow="visible" (id="[^"]+")>\n<path ([^>]+)>\n</symbol>', r"<path \1 \2>", svg)


def _with_decimals(svg: str, count: int) -> str:
    def shorten(number: re.Match[str]) -> str:
        return f"{float(number[0]):.{count}f}".rstrip("0").rstrip(".")

    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"\d+\.\d+", shorten, path[0]), svg)


def titled(svg: str, title: str) -> str:
    """An SVG that says what it shows to those who do not see it; its links are the short ones of SVG 2."""
    svg = svg.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "").replace("xlink:href", "href")
    start, end, others = svg.partition(">")
    return f'{start} role="img"{end}\n<title>{escape(title)}</title>{others}'
