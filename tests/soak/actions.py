"""What is done to a running agent: deployments, rollbacks, drops. Each says what came of it.

Invariant: an action raises nothing when the agent refuses or fails; the invariants decide what may be.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.core.plan import HOOK_NAMES
from pusher.wire.text import parse_timestamp
from tests.crash.aftermath import files
from tests.dropping import put, result, until
from tests.host import APP, MONTH_MS, Host, hook

UNKNOWN = "unknown"
"""The outcome of an action that got no answer in time."""

NOT_STARTED = "not started"
"""The outcome where there was no agent: it does not start with a journal that is no database."""

_DROP_S = 8.0
_VENVS = 3
"""Versions take turns with so many sets of dependencies."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an action: `outcome` (done, failed, refused, stuck; empty if there was nothing to do), `code`
    and `text` of a problem, and the `version` that was sent or gone back to."""

    outcome: str
    version: str = ""
    code: str = ""
    text: str = ""

    def to_document(self) -> dict[str, str]:
        return asdict(self)


Action = Callable[[Host, str, random.Random], Awaitable[Done]]
"""Acts on a host; `version` is a new one."""


async def deploy(host: Host, version: str, chance: random.Random) -> Done:
    return _said(await host.post(await _bundle(host, version, {})), version)


async def deploy_with_a_failing_hook(host: Host, version: str, chance: random.Random) -> Done:
    name = chance.choice(sorted(HOOK_NAMES))
    return _said(await host.post(await _bundle(host, version, {f"hooks/{name}": hook("exit 1")})), version)


async def deploy_unhealthy(host: Host, version: str, chance: random.Random) -> Done:
    return _said(await host.post(await _bundle(host, version, {"says": "something else"})), version)


async def roll_back(host: Host, version: str, chance: random.Random) -> Done:
    return _said(await host.rollback())


async def roll_back_to(host: Host, version: str, chance: random.Random) -> Done:
    _, listing = await host.request("GET", "/releases")
    others = [one["id"] for one in listing["releases"] if not one["live"]]
    return _said(await host.rollback(chance.choice(others))) if others else Done("")


async def drop(host: Host, version: str, chance: random.Random) -> Done:
    data = await _bundle(host, version, {})
    name = f"{version}.tar.zst"
    await asyncio.to_thread(put, host.layout.drop(APP) / name, data)
    try:
        found = await until(lambda: _ended(host, name), deadline_s=_DROP_S)
    except TimeoutError:
        return Done(UNKNOWN, version)  # it waits for something; or its result is gone, with a clock a year on
    problem = found.get("problem") or {}
    outcome = {"deployed": "done"}.get(found["state"], found["state"])
    return Done(outcome, version, problem.get("code", ""), _text(problem))


async def send_once_more(host: Host, version: str, chance: random.Random) -> Done:
    data = await asyncio.to_thread(_last(host).read_bytes) if _last(host).exists() else b""
    return _said(await host.post(data)) if data else Done("")


async def start(host: Host, version: str, chance: random.Random) -> Done:
    """Nothing more than the start of the agent."""
    return Done("")


ACTIONS: Mapping[str, Action] = {
    "deploy": deploy,
    "deploy with a failing hook": deploy_with_a_failing_hook,
    "deploy of an unhealthy release": deploy_unhealthy,
    "rollback": roll_back,
    "rollback to a named release": roll_back_to,
    "drop": drop,
    "send the last bundle once more": send_once_more,
    "start": start,
}


async def _bundle(host: Host, version: str, changed: Mapping[str, str]) -> bytes:
    """A bundle whose `created` is chosen as by `pusher send`: the later of now and the host's newest + 1 ms."""
    _, status = await host.request("GET", "/status")
    newest = parse_timestamp(status["newest_created"]) + 1 if status["newest_created"] else 0
    number = int(version.removeprefix("v"))
    source = files(version) | {"requirements.txt": f"# {number % _VENVS}\n"} | changed

    created = max(int(time.time() * 1000), newest)
    times = {"created": created, "expires": created + MONTH_MS}
    data = await asyncio.to_thread(lambda: host.bundle(source, version, **times))
    await asyncio.to_thread(_last(host).write_bytes, data)
    return data


def _ended(host: Host, name: str) -> dict[str, Any] | None:
    found = result(host, name)
    return found if found and found["state"] != "waiting" else None


def _last(host: Host) -> Path:
    return host.root / "last.tar.zst"


def _said(answer: tuple[int, dict[str, Any]], version: str = "") -> Done:
    _, said = answer
    if said.get("outcome") == "done":
        return Done("done", said.get("version", version))
    return Done(said.get("outcome", ""), said.get("version", version), said.get("code", ""), _text(said))


def _text(problem: Mapping[str, Any]) -> str:
    return ": ".join(filter(None, (problem.get("title", ""), problem.get("detail", ""))))
