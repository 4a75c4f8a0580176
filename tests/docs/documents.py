"""The documents of the repository, and what is read out of them."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
NAMES = [str(path.relative_to(REPOSITORY)) for path in DOCUMENTS]

SUFFIXES = (".py", ".md", ".toml", ".1", ".service", ".socket", "")
"""Of files that people read; the others are locks, archives and byte code."""


def source_files() -> list[Path]:
    """Everything that was written for this project, but the documents."""
    tops = [*map(REPOSITORY.joinpath, ("agent", "pusher", "packaging", "tests", "app-src"))]
    found = [path for top in tops for path in top.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(path for path in found if path.suffix in SUFFIXES) + [
        REPOSITORY / name for name in ("Makefile", "pyproject.toml", "pusher.toml")
    ]


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a document: language and content, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)


def prose(text: str) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def spans(text: str) -> list[str]:
    """What stands in backticks, outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
