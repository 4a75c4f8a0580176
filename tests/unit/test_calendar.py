"""Schedules are systemd's, and their times are read from what systemd-analyze writes."""

import shutil
from pathlib import Path

import pytest

from agent.host.run import calendar
from pusher.wire import Refused

ELSEWHERE = """\
  Original form: *-*-* 03:00
Normalized form: *-*-* 03:00:00
    Next elapse: Fri 2026-11-27 03:00:00 CET
       (in UTC): Fri 2026-11-27 02:00:00 UTC
       From now: 10h ago
"""
IN_UTC = """\
  Original form: *-*-* 03:00
Normalized form: *-*-* 03:00:00
    Next elapse: Fri 2026-11-27 03:00:00.5 UTC
       From now: 10h ago
"""
NEVER = """\
Normalized form: 2020-01-01 00:00:00
    Next elapse: never
"""
AT = 1_795_748_400_000  # 2026-11-27 03:00 UTC


@pytest.mark.parametrize(("said", "time"), [(ELSEWHERE, AT - 3_600_000), (IN_UTC, AT), (NEVER, None), ("", None)])
def test_the_next_time_is_read_in_utc(said: str, time: int | None) -> None:
    assert calendar.parse_next(said) == time


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
async def test_systemd_is_asked_for_the_time_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    first = await calendar.next_time("*-*-* 03:00", after=AT - 7_200_000, key="timers.nightly.schedule")
    assert first == AT - 3_600_000
    with pytest.raises(Refused, match=r"timers\.x\.schedule"):
        await calendar.next_time("at some time", after=0, key="timers.x.schedule")
    assert await calendar.next_time("2020-01-01", after=AT, key="timers.x.schedule") is None


async def test_without_systemd_a_schedule_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        await calendar.next_time("daily", after=0, key="timers.x.schedule", path=str(tmp_path))
    assert refused.value.what == "'timers.x.schedule' cannot be used here"
    assert "systemd-analyze" in refused.value.why
