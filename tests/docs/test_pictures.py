"""The pictures of the terminal: there for every width, and text that loads nothing."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pyte
import pytest

from tests.docs.pictures import CAST, PICTURES, WIDTHS, drawn, moving

FILES = sorted(PICTURES.glob("*-*.svg"))
CAST_FILE = PICTURES / f"{CAST}.svg"
SVG = "{http://www.w3.org/2000/svg}"


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
