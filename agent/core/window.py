"""A maintenance window: the days and hours in which a subscribed app may begin a deployment.

Invariant: the empty window is always open. A window that ends before it begins goes on into the next day, which
need not be one of its days.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_MINUTES = 24 * 60
_FORM = re.compile(
    r"(?:((?:[A-Z][a-z]{2}(?:\.\.[A-Z][a-z]{2})?)(?:,[A-Z][a-z]{2}(?:\.\.[A-Z][a-z]{2})?)*) )?"
    r"([0-2][0-9]):([0-5][0-9])\.\.([0-2][0-9]):([0-5][0-9])",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Window:
    """`days` from 0 (Monday); `begin` and `end` in minutes of the day."""

    days: Collection[int]
    begin: int
    end: int

    def contains(self, moment: datetime) -> bool:
        """Whether it is open at this local time."""
        minute, day = moment.hour * 60 + moment.minute, moment.weekday()
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        if minute >= self.begin:
            return day in self.days
        return minute < self.end and (day - 1) % 7 in self.days

    @property
    def length_s(self) -> int:
        """For how many seconds it is open each time."""
        return ((self.end - self.begin) % _DAY_MINUTES or _DAY_MINUTES) * 60

    def opens_in(self, moment: datetime) -> float:
        """How many seconds after this local time it opens next. An hour more or less, if clocks change before."""
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        opens = (midnight + timedelta(days=day, minutes=self.begin) for day in range(9))
        return next(
            (one - moment).total_seconds() for one in opens if one >= moment and one.weekday() in self.days
        )


def parse_window(text: str) -> Window:
    """The window that a text like "Mon..Fri 02:00..05:00" names; empty: always. Raises: ValueError."""
    if not text:
        return Window(range(7), 0, _DAY_MINUTES)
    found = _FORM.fullmatch(text)
    if not found:
        raise ValueError('a window like "Mon..Fri 02:00..05:00" or "22:00..04:00" is needed')
    begin, end = (int(found[at]) * 60 + int(found[at + 1]) for at in (2, 4))
    if begin >= _DAY_MINUTES or end > _DAY_MINUTES or begin == end:
        raise ValueError("a window begins from 00:00 to 23:59, ends until 24:00, and is not empty")
    return Window(frozenset(range(7)) if found[1] is None else _days(found[1]), begin, end)


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("..")
        if first not in _DAYS or (last and last not in _DAYS):
            raise ValueError(f"{part} is no day; days are {', '.join(_DAYS)}")
        at, end = _DAYS.index(first), _DAYS.index(last or first)
        days.add(at)
        while at != end:
            at = (at + 1) % 7
            days.add(at)
    return frozenset(days)
