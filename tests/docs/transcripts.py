"""What a page lets its readers type, and what it says that they see then."""

import re

from tests.docs.documents import blocks

_VOLATILE = (
    (r"\b\d+(?:\.\d+)? m?s\b", "SOME TIME"),
    (r"\S+ \(uid \d+\)", "SOMEBODY"),
    (r"\b\d{14}Z|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "A MOMENT"),
    (r"\bnow\b|\b\d+ min ago", "AN AGE"),
    (r"\s+", " "),
)
"""What differs from run to run."""


def steps(text: str) -> list[tuple[str, str]]:
    """The blocks of commands in a page, in order, each with the output that stands below it; "" if none does."""
    found = blocks(text)
    below = [*found[1:], ("", "")]
    return [
        (block, shown if kind == "text" else "")
        for (language, block), (kind, shown) in zip(found, below, strict=True)
        if not language
    ]


def unseen(shown: str, said: str) -> list[str]:
    """The lines that a page shows and the commands did not say."""
    seen = _stable(said)
    return [line for line in shown.splitlines() if _stable(line) not in seen]


def _stable(line: str) -> str:
    for pattern, word in _VOLATILE:
        line = re.sub(pattern, word, line)
    return line.strip()
