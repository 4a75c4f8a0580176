"""Text for people: safe to print, in tables, with numbers and times in words.

Invariant: text from elsewhere (an agent, a hook, a file's name) reaches the terminal only through `printable`.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pusher.wire import Problem

# C0 without tab and newline, DEL, C1; and what reorders or hides text: bidirectional controls, line and
# paragraph separators, lone surrogates.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_NAMED = 8
_SHORT, _LEFT = 20, 10
"""Characters: what is no longer than the first is not folded, if each other column has the second."""


def printable(text: object) -> str:
    """The text with every control character written as an escape."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


class Tone(StrEnum):
    """What a line means, for terminals that have colours."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    WARNING = "warning"
    QUIET = "quiet"


class Line(NamedTuple):
    """A line that is safe to print."""

    text: str
    tone: Tone = Tone.PLAIN


class Table(NamedTuple):
    """Rows under a head. A terminal fits it to its width; elsewhere columns are as wide as they need to be."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    optional: Sequence[str] = ()
    """The columns that a narrow terminal leaves out, the first one first."""

    def lines(self) -> list[str]:
        """It as lines, safe to print."""
        padded = (zip(row, self._widths(), strict=True) for row in self._cells())
        return ["  ".join(f"{cell:<{width}}" for cell, width in row).rstrip() for row in padded]

    def fitting(self, width: int) -> "Table":
        """It in so many characters, as far as leaving columns out can do that."""
        if sum(self._widths()) + 2 * (len(self.head) - 1) <= width or not self.optional:
            return self
        goes, *others = self.optional
        kept = [at for at, title in enumerate(self.head) if title != goes]
        rows = [[row[at] for at in kept] for row in self.rows]
        return Table([self.head[at] for at in kept], rows, others).fitting(width)

    def unbroken(self, width: int) -> list[bool]:
        """Which columns are not folded in so many characters: those of ids and times, which people copy, if
        something is left for the others then."""
        widths = self._widths()
        short = [one <= _SHORT for one in widths]
        needed = sum(one if whole else _LEFT for one, whole in zip(widths, short, strict=True))
        return short if needed + 2 * (len(widths) - 1) <= width else [False] * len(widths)

    def _widths(self) -> list[int]:
        return [max(map(len, column)) for column in zip(*self._cells(), strict=True)]

    def _cells(self) -> list[list[str]]:
        return [[printable(cell).replace("\n", " ") for cell in row] for row in (self.head, *self.rows)]


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


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


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


def age(timestamp: object, *, now: datetime) -> str:
    """How long ago an RFC 3339 time was: `now`, `5 min ago`, `3 h ago`, `2 days ago`. Empty if it is none."""
    try:
        then = datetime.fromisoformat(str(timestamp))
        seconds = int((now - then).total_seconds())
    except (ValueError, TypeError):
        return ""
    if seconds < 60:
        return "now"  # or later, where the clocks differ
    for many, unit in ((86_400, "day"), (3_600, "h"), (60, "min")):
        if count := seconds // many:
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''} ago"
    raise RuntimeError(f"{seconds} seconds are no minute")


def moment(timestamp: object) -> str:
    """An RFC 3339 time without its T, decimals and Z: `2026-11-23 02:00:55`."""
    return str(timestamp or "")[:19].replace("T", " ")
