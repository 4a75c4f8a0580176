"""A host whose clock is wrong: somebody names the clock, and which of them."""

import pytest

from agent.core.config.host import BundleLimits
from agent.core.trust import check
from pusher.fleet.reports import Heard
from pusher.fleet.standing import places
from pusher.wire import Refused
from pusher.wire.report import Report
from tests.unit.test_trust import MANIFEST


def test_a_bundle_that_was_signed_just_now_and_has_expired_there_is_a_question_of_the_clock() -> None:
    """I sign again and again, and it has always expired: the server believes that it is 2040."""
    with pytest.raises(Refused) as caught:
        check(MANIFEST, app=MANIFEST.app, host="web1", now=1 << 41, newest_accepted=None, limits=BundleLimits())
    assert "one of the clocks is wrong: that of web1, or of the machine that signed" in caught.value.hint
    assert "on web1 it is 2039-09-07T15:47:35.552Z" in caught.value.why


def test_it_is_said_on_which_machine_the_clock_must_be_set() -> None:
    """I read this on my laptop: "this host" would be the wrong one."""
    known = {"app": MANIFEST.app, "host": "web1", "limits": BundleLimits()}
    now = MANIFEST.created - 86_400_000
    for newest, hint in (
        (None, "Set the clock of the machine that signed, or of web1, and sign again"),
        (now + 80_000_000, "Set the clock of web1: it has accepted a bundle of 20"),
    ):
        with pytest.raises(Refused) as caught:
            check(MANIFEST, now=now, newest_accepted=newest, **known)
        assert caught.value.hint.startswith(hint)
        assert "; on web1 it is 20" in caught.value.why


def test_a_host_that_reports_from_the_future_is_named_with_its_clock() -> None:
    """Its clock is a day ahead: for a day after its end, it would not be called silent."""
    now = 1_795_000_000_000
    for ahead_s, why in ((240, ""), (26 * 3600, "its clock is 26 h ahead of this one")):
        report = Report(app="shop", channel="stable", host="web1", created=now + ahead_s * 1000, state="current")
        (place,) = places(None, [Heard("web1", report)], now=now)
        assert (place.state, place.why) == ("current", why)
