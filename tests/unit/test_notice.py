"""A notice says what happened in each format, and no text of unknown origin leaves its place in it."""

import base64
import email
import email.policy
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.notice import (
    LONGEST_PAUSE_S,
    Ending,
    Notice,
    details,
    ending,
    one_line,
    pause_s,
    sentence,
)
from agent.core.notice_formats import mail, message, signed
from agent.core.phases import Phase
from agent.core.plan import Kind
from pusher.wire import format_timestamp

TIME = 1_795_784_400_000
NASTY = 'v3\r\nX-Evil: 1\r\n\r\n<!channel> <http://evil|here> & "q" \u202e\x1b[31m \ud800 =?UTF-8?B?YQ==?='


def notice(**changes: Any) -> Notice:
    facts: dict[str, Any] = {
        "id": "shop-20261127130000Z",
        "host": "web1",
        "ending": Ending.FAILED,
        "app": "shop",
        "version": "v3",
        "time": TIME,
        "started": TIME - 12_400,
        "by": "alice (uid 1000)",
        "release": "20261127130000Z",
        "previous": "20261126130000Z",
        "kind": "deploy",
        "problem": {"code": "app_exited", "title": "The app ended", "detail": "exit code 3", "output": "secret"},
    }
    return Notice(**facts | changes)


@pytest.mark.parametrize(
    ("kind", "phase", "wanted"),
    [
        (Kind.DEPLOY, Phase.DONE, Ending.DONE),
        (Kind.ROLLBACK, Phase.DONE, Ending.ROLLED_BACK),
        (Kind.DEPLOY, Phase.FAILED, Ending.FAILED),
        (Kind.ROLLBACK, Phase.FAILED, Ending.FAILED),
        (Kind.ROLLBACK, Phase.STUCK, Ending.STUCK),
    ],
)
def test_an_ending_is_named_by_kind_and_phase(kind: Kind, phase: Phase, wanted: Ending):
    assert ending(kind, phase) is wanted


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (Ending.DONE, "shop v3 is live on web1"),
        (Ending.ROLLED_BACK, "shop went back to v3 on web1"),
        (Ending.FAILED, "shop v3 failed on web1, and was taken back"),
        (Ending.STUCK, "shop is STUCK on web1: a person is needed"),
        (Ending.TEST, "web1 can reach you: this is a test"),
    ],
)
def test_each_ending_is_a_sentence(one: Ending, words: str):
    assert sentence(notice(ending=one)) == words


def test_the_details_say_why_what_to_do_and_by_whom():
    found = notice(problem={"title": "It ended", "detail": "exit code 3", "hint": "Did you mean v2?"})
    assert details(found) == ["It ended: exit code 3.", "Did you mean v2?", "By alice (uid 1000), after 12.4 s."]
    assert details(notice(problem={"title": "It ended."}, by="")) == ["It ended."]
    assert details(notice(problem={}, kind="")) == ["By alice (uid 1000)."]


def test_what_a_release_wrote_is_in_no_notice():
    for form in ("json", "slack", "ntfy", "cloudevents"):
        assert b"secret" not in message(notice(), form).body
    assert b"secret" not in mail(notice(), to="ops@example.org")


def test_json_has_every_fact_as_it_is():
    found = json.loads(message(notice(version=NASTY), "json").body)
    assert found["version"] == NASTY
    assert {key: value for key, value in found.items() if key not in ("version", "text")} == {
        "id": "shop-20261127130000Z",
        "event": "failed",
        "host": "web1",
        "app": "shop",
        "release": "20261127130000Z",
        "previous": "20261126130000Z",
        "kind": "deploy",
        "by": "alice (uid 1000)",
        "started": format_timestamp(TIME - 12_400),
        "finished": format_timestamp(TIME),
        "ms": 12_400,
        "problem": {"code": "app_exited", "title": "The app ended", "detail": "exit code 3"},
    }
    assert json.loads(message(notice(problem={}, previous=""), "json").body)["problem"] is None


def test_slack_gets_no_markup_from_names():
    found = json.loads(message(notice(version=NASTY), "slack").body)
    assert set(found) == {"text", "mrkdwn"}
    assert found["mrkdwn"] is False
    assert "<" not in found["text"]
    assert ">" not in found["text"]
    assert "&lt;!channel&gt;" in found["text"]
    assert "&amp; " in found["text"]


@given(st.text(max_size=400), st.text(max_size=400))
def test_no_text_makes_a_header_of_ntfy_longer_than_a_line(app: str, version: str):
    found = message(notice(app=app, version=version, problem={"title": version}), "ntfy")
    for value in found.headers.values():
        assert value.isascii()
        assert value.isprintable()
    assert len(found.body) <= 4_000
    found.body.decode()


def test_ntfy_has_title_urgency_and_message():
    found = message(notice(ending=Ending.STUCK, version="é"), "ntfy")
    assert found.headers["Title"] == "shop is STUCK on web1: a person is needed"
    assert (found.headers["Priority"], found.headers["Tags"]) == ("urgent", "rotating_light")
    assert found.body.decode().splitlines() == [
        "The app ended: exit code 3.",
        "By alice (uid 1000), after 12.4 s.",
    ]
    title = message(notice(ending=Ending.DONE, version="é", problem={}), "ntfy").headers["Title"]
    assert (
        base64.b64decode(title.removeprefix("=?UTF-8?B?").removesuffix("?=")).decode() == "shop é is live on web1"
    )
    spoofed = message(notice(ending=Ending.DONE, version="=?UTF-8?B?YQ==?="), "ntfy").headers["Title"]
    assert base64.b64decode(spoofed[10:-2]).decode() == "shop =?UTF-8?B?YQ==?= is live on web1"
    bare = message(notice(ending=Ending.DONE, by="", problem={}), "ntfy")
    assert bare.body == b"shop v3 is live on web1"


def test_a_cloud_event_has_the_attributes_of_version_1_0():
    found = message(notice(host="web 1/é", version=NASTY), "cloudevents")
    assert found.headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    event = json.loads(found.body)
    assert {key: value for key, value in event.items() if key != "data"} == {
        "specversion": "1.0",
        "id": "shop-20261127130000Z",
        "source": "/pusher-agent/web%201%2F%C3%A9",
        "type": "pusher.deployment.failed",
        "subject": "shop",
        "time": event["data"]["finished"],
        "datacontenttype": "application/json",
    }
    assert event["data"]["version"] == NASTY
    test = json.loads(message(notice(ending=Ending.TEST, kind="", app=""), "cloudevents").body)
    assert test["type"] == "pusher.test"
    assert "subject" not in test, "an attribute that is there must not be empty"


def test_a_mail_has_one_subject_and_no_header_of_somebody_else():
    content = mail(notice(version=NASTY, app="shop\nBcc: all@example.com"), to="ops@example.org")
    found = email.message_from_bytes(content, policy=email.policy.default)
    assert {*found} == {
        "To", "Subject", "Date", "Auto-Submitted", "X-Pusher-Notice", "Content-Type", "Content-Transfer-Encoding",
        "MIME-Version",
    }  # fmt: skip
    assert found["To"] == "ops@example.org"
    assert found["Subject"].startswith("[failed] shop Bcc: all@example.com v3 X-Evil: 1 <!channel>")
    assert found["Auto-Submitted"] == "auto-generated"
    assert "The app ended: exit code 3." in found.get_content()


@pytest.mark.parametrize(
    ("secret", "key"),
    [(b"letmein\n", b"letmein"), (b"whsec_" + base64.b64encode(b"raw key") + b"\n", b"raw key")],
)
def test_a_signature_is_that_of_standard_webhooks(secret: bytes, key: bytes):
    found = signed("shop-1", b"{}", secret=secret, time_s=17)
    wanted = base64.b64encode(hmac.new(key, b"shop-1.17.{}", hashlib.sha256).digest()).decode()
    assert found == {"webhook-id": "shop-1", "webhook-timestamp": "17", "webhook-signature": f"v1,{wanted}"}


def test_a_secret_that_is_not_in_base64_is_an_error():
    with pytest.raises(ValueError, match=r"base64|Base64|non-base64"):
        signed("shop-1", b"{}", secret=b"whsec_ein Passwort", time_s=17)


def test_a_line_of_unknown_origin_is_one_visible_line():
    assert one_line("a\r\n b\t\x1b[0m\u202ec\ud800") == "a b [0m c"
    assert one_line("x" * 400, 10) == "xxxxxxx..."


def test_pauses_double_up_to_half_an_hour_and_differ():
    assert [pause_s(failures, chance=0.5) for failures in (1, 2, 3)] == [5, 10, 20]
    assert pause_s(1_000, chance=0.5) == LONGEST_PAUSE_S
    assert (pause_s(1, chance=0), pause_s(1, chance=1)) == (2.5, 7.5)


def test_a_pause_that_was_asked_for_is_never_shorter():
    assert pause_s(1, chance=0, asked_s=120) == 120
    assert pause_s(1, chance=1, asked_s=120) == pytest.approx(132)
    assert pause_s(20, chance=0.5, asked_s=120) == LONGEST_PAUSE_S
