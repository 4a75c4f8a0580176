"""The pictures of the terminal and of the page: all there, and text that loads nothing."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pyte
import pytest

from tests.browser.prints import shortened, titled
from tests.docs.documents import DOCUMENTS
from tests.docs.pictures import CAST, PICTURES, WIDTHS, drawn, moving

PAGES = [PICTURES / f"{name}.svg" for name in ("dashboard", "page-dark", "page-light", "page-narrow")]
CAST_FILE = PICTURES / f"{CAST}.svg"
FILES = sorted({*PICTURES.glob("*.svg")} - {*PAGES, CAST_FILE})
SVG = "{http://www.w3.org/2000/svg}"
DRAWN = {*("svg", "title", "defs", "g", "path", "use", "rect", "clipPath", "mask", "filter", "feColorMatrix")}
"""Of what a picture of the page may consist."""


def texts(svg: str) -> list[tuple[str, str]]:
    found = ElementTree.fromstring(svg).iter(f"{SVG}text")
    return [((one.text or "").replace("\u00a0", " "), str(one.get("fill"))) for one in found]


def test_what_a_terminal_shows_is_drawn_with_its_colours_and_without_its_blanks() -> None:
    screen = pyte.Screen(40, 200)
    pyte.Stream(screen).feed("$ pusher <status>\r\n  \x1b[32mdone & well\x1b[0m   3 s")
    green, plain = "#7ee787", "#d8dee9"
    assert texts(drawn(screen, title="x")) == [
        ("$ pusher <status>", plain),
        ("done & well", green),
        ("3 s", plain),
    ]


def test_every_picture_is_there_for_every_width() -> None:
    names = {file.stem.rpartition("-")[0] for file in FILES}
    assert {"send", "failing-send", "two-hosts", "releases", "history", "status"} == names
    assert {file.stem for file in FILES} == {f"{name}-{width}" for name in names for width in WIDTHS}


@pytest.mark.parametrize("file", [*FILES, CAST_FILE], ids=lambda file: file.stem)
def test_a_picture_shows_a_command_and_loads_nothing(file: Path) -> None:
    svg = file.read_text()
    assert any(text.startswith("$ pusher ") for text, _ in texts(svg))
    assert {*re.findall(r"https?://[\w.]+", svg)} <= {"http://www.w3.org", "http://127.0.0.1"}
    assert not re.search(r"<(script|image|use|style|foreignObject)|url\(|href", svg)


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_a_picture_of_the_page_needs_nothing_but_itself_and_stays_small(file: Path) -> None:
    svg = file.read_text()
    assert len(svg) < 150_000
    root = ElementTree.fromstring(svg)
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= DRAWN
    assert "://" not in svg.replace('"http://www.w3.org/2000/svg"', "")
    places = re.findall(r'\bid="([^"]+)"', svg)
    wanted = re.findall(r'href="([^"]*)"', svg) + re.findall(r"url\(([^)]*)\)", svg)
    assert len(places) == len({*places})
    assert {*wanted} <= {f"#{place}" for place in places}


@pytest.mark.parametrize("file", [*PAGES, CAST_FILE], ids=lambda file: file.stem)
def test_a_picture_is_shown_in_a_document(file: Path) -> None:
    shown = {
        (document.parent / link).resolve()
        for document in DOCUMENTS
        for link in re.findall(r"\[[^]]+\]\(([^)#]+)\)", document.read_text())
    }
    assert file in shown


def test_a_print_is_kept_with_as_many_decimals_as_can_be_seen_and_says_what_it_shows() -> None:
    printed = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.2">
<defs>
<g>
<symbol overflow="visible" id="glyph0-0">
<path style="stroke:none;" d="M 0.828125 -11.8125 L 9 2.999 Z "/>
</symbol>
<symbol overflow="visible" id="glyph0-1">
<path style="stroke:none;" d=""/>
</symbol>
</g>
</defs>
<path d="M 40.044105 60.96 "/>
<use xlink:href="#glyph0-0" x="799.357987" y="216.844512"/>
<use xlink:href="#glyph0-1" x="802.5" y="216.844512"/>
</svg>
"""
    assert (
        titled(shortened(printed), "a < b")
        == """<svg xmlns="http://www.w3.org/2000/svg" version="1.2" role="img">
<title>a &lt; b</title>
<defs>
<g>
<path id="glyph0-0" style="stroke:none;" d="M 0.83 -11.81 L 9 3 Z "/>
<path id="glyph0-1" style="stroke:none;" d=""/>
</g>
</defs>
<path d="M 40 61 "/>
<use href="#glyph0-0" x="799.3" y="216.8"/>

</svg>
"""
    )


def test_a_cast_shows_each_text_as_long_as_it_stood_there_and_keeps_the_last() -> None:
    first, passing, last = ('<text x="1">a</text>', '<text x="2">b</text>', '<text x="3">c</text>')
    flash = '<text x="4">d</text>'
    svg = moving([(0, [first]), (1, [first, passing]), (2.5, [first, flash]), (2.5, [first, last])], rows=1)
    found = {
        (one.text, one.get("visibility")): [dict(each.attrib) for each in one]
        for one in ElementTree.fromstring(svg).iter(f"{SVG}text")
    }
    show, hide = ({"attributeName": "visibility", "to": to} for to in ("visible", "hidden"))
    assert found == {
        ("a", None): [],
        ("b", "hidden"): [show | {"begin": "1.00s", "dur": "1.50s"}],
        ("c", None): [hide | {"begin": "0s", "dur": "2.50s"}],
    }
