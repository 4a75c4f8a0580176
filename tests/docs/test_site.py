"""The site of the documents: every page is there, every link leads somewhere, nothing is loaded from elsewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.documents import DOCUMENTS, REPOSITORY


class Page(HTMLParser):
    """The links of a page, what it loads, and the places in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(found["href"])
        elif "src" in found:
            self.loaded.append(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = (Path(sys.executable).with_name("mkdocs"), "build", "--quiet", "--strict", "--site-dir", str(folder))
    config = ("--config-file", str(REPOSITORY / "packaging/mkdocs.yml"))
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run((*words, *config), capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def test_every_document_has_a_page(site: Path) -> None:
    wanted = {
        path.relative_to(REPOSITORY / "docs") for path in DOCUMENTS if path.is_relative_to(REPOSITORY / "docs")
    }
    made = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}
    assert {Path("index.md") if str(path) == "README.md" else path for path in wanted} <= made


def test_no_link_is_dead(site: Path) -> None:
    found = pages(site)
    dead = []
    for path, page in found.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            beside = not target.is_relative_to(site)  # the README and the sources, which lie beside docs/
            target = target / "index.html" if target.is_dir() else target
            there = target in found and (not parts.fragment or unquote(parts.fragment) in found[target].places)
            if not beside and not there and not (target.is_file() and target not in found):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = {one for page in pages(site).values() for one in page.loaded}
    assert loaded
    assert [one for one in loaded if urlsplit(one).netloc] == []
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"url\(\s*[\"']?(?:https?:)?//", styles) == []
