"""Text for people: safe to print, in tables, with numbers and times in words.

Invariant: text from elsewhere (an agent, a hook, a file's name) reaches the terminal only through `printable`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from pusher.wire import Problem

# C0 without tab and newline, DEL, C1; and what reorders or hides text: bidirectional controls, line and
# paragraph separators, lone surrogates.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """The text with every control character written as an escape."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines in columns as wide as they need to be."""
    cells = [[printable(cell).replace("\n", " ") for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells]


def sentence(problem: Problem) -> str:
    """What could not be done, and why."""
    return f"{problem.what}: {problem.why}" if problem.why else problem.what


def duration(ms: object) -> str:
    """Milliseconds for people: `12 ms`, `1.4 s`, `2 min 5 s`. Empty for anything but a number."""
    if isinstance(ms, bool) or not isinstance(ms, int | float):
        return ""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms // 60_000:.0f} min {ms % 60_000 // 1000:.0f} s"


def byte_count(size: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def amount(files: int, size: int) -> str:
    """A number of files, and their bytes together."""
    return f"{files} file{'' if files == 1 else 's'}, {byte_count(size)}"


def release_name(release: object) -> str:
    """Version and id of a release in an agent's answer; `-` for none."""
    if not isinstance(release, Mapping):
        return "-"
    return f"{release.get('version')} ({release.get('release')})"


def commit_name(source: object) -> str:
    """The commit of a release in an agent's answer, short: `3e1a2b4c main, 2 files changed`. Empty for none."""
    if not isinstance(source, Mapping):
        return ""
    name = " ".join(part for part in (str(source.get("commit", ""))[:8], str(source.get("branch", ""))) if part)
    changed = source.get("changed")
    many = f", {changed} file{'' if changed == 1 else 's'} changed" if changed else ""
    return f"{name}{many}"


def moment(timestamp: object) -> str:
    """An RFC 3339 time without its T, decimals and Z: `2026-11-23 02:00:55`."""
    return str(timestamp or "")[:19].replace("T", " ")
