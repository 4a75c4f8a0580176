"""A maintenance window: when a subscribed app may begin."""

from datetime import datetime

import pytest

from agent.core.window import parse_window

MONDAY = 23  # of November 2026


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, MONDAY + day, hour, minute).astimezone()


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("", [at(0, 0), at(6, 23, 59)], []),
        ("Mon..Fri 02:00..05:00", [at(0, 2), at(4, 4, 59)], [at(0, 1, 59), at(0, 5), at(5, 3), at(6, 3)]),
        ("Sat,Sun 00:00..24:00", [at(5, 0), at(6, 23, 59)], [at(4, 23, 59)]),
        ("Fri..Mon 10:00..11:00", [at(0, 10), at(4, 10), at(6, 10)], [at(1, 10), at(3, 10)]),
        ("22:30..04:00", [at(0, 22, 30), at(0, 3, 59)], [at(0, 4), at(0, 22, 29)]),
        ("Mon 22:00..04:00", [at(0, 23), at(1, 3)], [at(0, 3), at(1, 23)]),
        ("Tue,Thu..Fri 08:00..09:00", [at(1, 8), at(4, 8)], [at(2, 8)]),
    ],
)
def test_a_window_contains_its_hours_on_its_days(
    text: str, inside: list[datetime], outside: list[datetime]
) -> None:
    window = parse_window(text)
    assert [one for one in inside if not window.contains(one)] == []
    assert [one for one in outside if window.contains(one)] == []


@pytest.mark.parametrize(
    ("text", "moment", "opens", "length"),
    [
        ("Mon..Fri 02:00..05:00", at(0, 1), at(0, 2), 3),
        ("Mon..Fri 02:00..05:00", at(0, 2), at(0, 2), 3),
        ("Mon..Fri 02:00..05:00", at(4, 3), at(7, 2), 3),
        ("Mon 22:00..04:00", at(0, 23), at(7, 22), 6),
        ("22:30..22:00", at(0, 22, 15), at(0, 22, 30), 23.5),
        ("", at(0, 1), at(1, 0), 24),
    ],
)
def test_a_window_says_when_it_opens_and_for_how_long(
    text: str, moment: datetime, opens: datetime, length: float
) -> None:
    window = parse_window(text)
    assert (window.opens_in(moment), window.length_s) == ((opens - moment).total_seconds(), length * 3600)


@pytest.mark.parametrize(
    "text",
    ["always", "02:00", "2:00..3:00", "02:00..02:00", "24:00..02:00", "02:00..25:00", "02:60..03:00",
     "Mon..Foo 02:00..03:00", "Foo 02:00..03:00", "mon 02:00..03:00", "Mon", "Mon  02:00..03:00", "02:00..24:30"],
)  # fmt: skip
def test_anything_else_is_no_window(text: str) -> None:
    with pytest.raises(ValueError, match=r"window|day"):
        parse_window(text)
