"""The history of an app on a host, compared with what this user saw of it before.

Invariant: the head that was seen last is replaced only by one that belongs to the same history. So a history that
was changed, shortened or replaced is reported each time, until a person removes the file with the head.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pusher.errors import HistoryChanged
from pusher.transport.client import RECORDS, Client
from pusher.transport.hosts import Address, Ssh, Unix
from pusher.wire import Head, WireError, check_app


def check_history(client: Client, answer: Mapping[str, Any], *, folder: Path) -> HistoryChanged | None:
    """What is wrong with the history that an answer tells of; None if it is the one that was seen before.

    `folder` has the heads that were seen. What cannot be kept there is not remembered. Raises: Problem, if the
    host does not answer.
    """
    try:
        app = check_app(str(answer.get("app")))
    except WireError:
        return None
    file = folder / "history" / quote(_spelled(client.host.address), safe="") / f"{app}.json"
    seen = _read(file)
    claimed = answer.get("history")
    if claimed is None and seen is None:
        return None  # an agent that is older than this
    try:
        if not isinstance(claimed, Mapping):
            raise WireError("the agent does not tell it any more")
        now = Head.from_members(claimed)
    except WireError as error:
        return _changed(client, app, str(error), file)
    if problem := claimed.get("problem"):
        return _changed(client, app, str(problem)[:500], None)
    if seen is not None and (difference := _difference(client, app, seen, now)):
        return _changed(client, app, difference, file)
    if now != seen:
        with suppress(OSError):
            _write(file, now)
    return None


def _difference(client: Client, app: str, seen: Head, now: Head) -> str:
    """How the history differs from the one that had the head `seen`; empty if it goes on from there."""
    more = now.records - seen.records
    if more < 0:
        return f"it has {now.records} records; when it was seen last, it had {seen.records}"
    if more > RECORDS:
        return f"it has {more:,} records more than when it was seen last, which is too many to check"
    if not seen.leads_to(now, islice(client.records(app, after=seen.records), more) if more else ()):
        return f"it does not contain the {seen.records} records that were seen last"
    return ""


def _changed(client: Client, app: str, why: str, file: Path | None) -> HistoryChanged:
    hint = "On the host, as root: pusher-agent check"
    if file is not None:
        hint += f". If the journal was replaced on purpose, remove {file}"
    return HistoryChanged(f"The history of {app} on {client.host.name} was changed", why=why, hint=hint)


def _spelled(address: Address) -> str:
    """The host itself, whatever user connects to it. Its name in pusher.toml may be another host's elsewhere."""
    match address:
        case Ssh():
            return f"ssh:{address.host}:{address.port or ''}"
        case Unix():
            return f"unix:{address.path}"
        case _:
            return f"http:{address.host}:{address.port}"


def _read(file: Path) -> Head | None:
    try:
        found = json.loads(file.read_bytes())
        return Head.from_members(found) if isinstance(found, dict) else None
    except (OSError, ValueError):
        return None


def _write(file: Path, head: Head) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        aside.write_text(json.dumps(head.members()) + "\n", "utf-8")
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
