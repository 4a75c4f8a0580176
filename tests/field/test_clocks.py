"""A host whose clock is wrong: what it says is read by its own clock, and somebody names the clock."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from agent.core.config.host import BundleLimits
from agent.core.trust import check
from pusher.fleet.reports import Heard
from pusher.fleet.standing import places
from pusher.wire import Refused
from pusher.wire.report import Report
from tests.unit.scripted_agent import Run
from tests.unit.scripted_door import Exchange, ScriptedDoor, note
from tests.unit.test_trust import MANIFEST


@pytest.mark.parametrize("days", [-1, 1, 400])
def test_the_age_of_a_release_is_that_by_the_hosts_clock(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str], days: int
) -> None:
    """I sent it five minutes ago; neither "1 day ago" nor "now" is true, whatever the host's calendar says."""
    there = datetime.now(UTC) + timedelta(days=days)
    created = (there - timedelta(minutes=5, seconds=20)).isoformat(timespec="milliseconds")[:-6] + "Z"

    def releases(exchange: Exchange) -> None:
        note(exchange)
        raw = json.dumps({"releases": [{"id": "r1", "version": "v1", "created": created}]}).encode()
        exchange.send_response_only(200)
        exchange.send_header("Date", format_datetime(there, usegmt=True))
        exchange.send_header("Content-Type", "application/json")
        exchange.send_header("Content-Length", str(len(raw)))
        exchange.end_headers()
        exchange.wfile.write(raw)

    door.on("GET", "/apps/flask-demo/releases", releases)
    assert pusher("releases", "--host", door.address) == 0
    assert "  5 min ago" in capsys.readouterr().out


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 99 Nov 2026 01:00:00 GMT"])
def test_without_a_date_that_can_be_read_the_age_is_by_our_clock(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str], date: str
) -> None:
    """A proxy took the date away; I still see the releases."""
    created = (datetime.now(UTC) - timedelta(hours=3, minutes=1)).isoformat(timespec="milliseconds")[:-6] + "Z"

    def releases(exchange: Exchange) -> None:
        note(exchange)
        raw = json.dumps({"releases": [{"id": "r1", "version": "v1", "created": created}]}).encode()
        exchange.send_response_only(200)
        exchange.send_header("Date", date)
        exchange.send_header("Content-Type", "application/json")
        exchange.send_header("Content-Length", str(len(raw)))
        exchange.end_headers()
        exchange.wfile.write(raw)

    door.on("GET", "/apps/flask-demo/releases", releases)
    assert pusher("releases", "--host", door.address) == 0
    assert "  3 h ago" in capsys.readouterr().out


def test_a_bundle_that_was_signed_just_now_and_has_expired_there_is_a_question_of_the_clock() -> None:
    """I sign again and again, and it has always expired: the server believes that it is 2040."""
    with pytest.raises(Refused) as caught:
        check(MANIFEST, app=MANIFEST.app, host="web1", now=1 << 41, newest_accepted=None, limits=BundleLimits())
    assert "one of the clocks is wrong: this host's, or that of the machine that signed" in caught.value.hint


def test_a_host_that_reports_from_the_future_is_named_with_its_clock() -> None:
    """Its clock is a day ahead: for a day after its end, it would not be called silent."""
    now = 1_795_000_000_000
    for ahead_s, why in ((240, ""), (26 * 3600, "its clock is 26 h ahead of this one")):
        report = Report(app="shop", channel="stable", host="web1", created=now + ahead_s * 1000, state="current")
        (place,) = places(None, [Heard("web1", report)], now=now)
        assert (place.state, place.why) == ("current", why)
