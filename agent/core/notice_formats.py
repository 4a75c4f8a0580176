"""A notice in the form that its receiver reads.

Invariant: text of unknown origin cannot leave its place in any form: no markup for Slack, no second header for
ntfy or a mail, no other attribute of a CloudEvent.
"""

import base64
import email.policy
import email.utils
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any, Literal
from urllib.parse import quote

from agent.core.notice import Ending, Notice, details, sentence
from pusher.wire import format_timestamp

Format = Literal["json", "slack", "ntfy", "cloudevents"]

_NTFY_BODY = 4_000
"""ntfy makes a file of a message that is longer than 4,096 bytes (docs.ntfy.sh, "Limitations")."""
_SECRET_PREFIX = "whsec_"  # noqa: S105 - what such secrets begin with, no secret
_PRIORITIES = {Ending.STUCK: "urgent", Ending.FAILED: "high"}
_TAGS = {
    Ending.STUCK: "rotating_light",
    Ending.FAILED: "warning",
    Ending.DONE: "rocket",
    Ending.ROLLED_BACK: "leftwards_arrow_with_hook",
    Ending.TEST: "wave",
}


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent by HTTP."""

    headers: Mapping[str, str]
    body: bytes


def message(notice: Notice, form: Format) -> Message:
    """The notice in one of the forms."""
    match form:
        case "json":
            return Message({"Content-Type": "application/json"}, _json(notice.members()))
        case "slack":
            return _slack(notice)
        case "ntfy":
            return _ntfy(notice)
        case _:
            return _cloud_event(notice)


def signed(id: str, body: bytes, *, secret: bytes, time_s: int) -> dict[str, str]:
    """The headers that prove where a message comes from, and when it was sent (www.standardwebhooks.com).

    A receiver refuses an old time, and an `id` that it knows. Raises: ValueError, for a secret with the prefix of
    the standard that is not in base64.
    """
    key = secret.strip()
    if key.startswith(_SECRET_PREFIX.encode()):
        key = base64.b64decode(key.removeprefix(_SECRET_PREFIX.encode()), validate=True)
    content = b"%s.%d.%s" % (id.encode(), time_s, body)
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return {"webhook-id": id, "webhook-timestamp": str(time_s), "webhook-signature": f"v1,{signature}"}


def mail(notice: Notice, *, to: str) -> bytes:
    """The notice as a mail (RFC 5322), as `sendmail` reads it. The sender is left to that."""
    built = EmailMessage(email.policy.default)
    built["To"] = to
    built["Subject"] = f"[{notice.ending.value}] {sentence(notice)}"
    built["Date"] = email.utils.format_datetime(datetime.fromtimestamp(notice.time // 1000, UTC))
    built["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers this
    built["X-Pusher-Notice"] = notice.id
    built.set_content("\n".join([sentence(notice), "", *details(notice), ""]))
    return built.as_bytes()


def _slack(notice: Notice) -> Message:
    lines = [sentence(notice), *details(notice)]
    # These three mean something to Slack in any text (api.slack.com, "Escaping text"). Other markup is turned off.
    text = "\n".join(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Message({"Content-Type": "application/json"}, _json({"text": text, "mrkdwn": False}))


def _ntfy(notice: Notice) -> Message:
    body = "\n".join(details(notice)) or sentence(notice)
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Title": _header(sentence(notice)),
        "Tags": _TAGS[notice.ending],
        "Priority": _PRIORITIES.get(notice.ending, "default"),
    }
    return Message(headers, body.encode(errors="replace")[:_NTFY_BODY].decode(errors="ignore").encode())


def _cloud_event(notice: Notice) -> Message:
    members = {
        "specversion": "1.0",
        "id": notice.id,
        "source": f"/pusher-agent/{quote(notice.host, safe='')}",
        "type": f"pusher.deployment.{notice.ending.value}" if notice.kind else "pusher.test",
        "time": format_timestamp(notice.time),
        "datacontenttype": "application/json",
        "data": notice.members(),
    }
    if notice.app:
        members["subject"] = notice.app
    return Message({"Content-Type": "application/cloudevents+json; charset=utf-8"}, _json(members))


def _json(members: Mapping[str, Any]) -> bytes:
    """JSON in plain ASCII: whatever a text holds has a spelling there."""
    return json.dumps(members, sort_keys=True).encode()


def _header(line: str) -> str:
    """A line as the value of a header. What is not plain becomes an encoded word (RFC 2047), which ntfy reads."""
    if line.isascii() and "=?" not in line:
        return line
    return f"=?UTF-8?B?{base64.b64encode(line.encode(errors='replace')).decode()}?="
