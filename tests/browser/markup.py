"""An agent whose every word is markup."""

from typing import Any

import aiohttp

from agent.doors.http.server import HttpDoor
from pusher.wire import Happened, LogLine, format_timestamp
from tests.deploy.simulated_agent import TIME, SimulatedApp

EVIL = "<img src=x onerror=pwned=1>" + 100 * "a"


def hostile(shop: SimulatedApp) -> None:
    """Let everything that the agent says of an app be markup."""
    release = {"release": EVIL, "version": EVIL, "manifest": EVIL, "source": {"commit": EVIL}, "signed_by": EVIL}
    row = {"deployment": "shop-1", "kind": EVIL, "version": EVIL, "release": EVIL, "outcome": "failed", "by": EVIL,
           "started": format_timestamp(TIME), "ms": 5, "problem": {"title": EVIL}}  # fmt: skip
    head = {"records": 0, "head": EVIL, "problem": EVIL}

    async def summary() -> dict[str, Any]:
        timer = {"name": EVIL, "schedule": EVIL, "running": False, "last": EVIL, "next": EVIL, "ending": EVIL}
        worker = {"name": EVIL, "running": False, "release": EVIL, "version": EVIL, "pid": EVIL, "why": EVIL}
        return {"app": EVIL, "host": EVIL, "agent": EVIL, "listen": EVIL, "start": EVIL, "running": False,
                "live": {**release, "since": EVIL, "by": EVIL}, "previous": release, "processes": [worker],
                "timers": [timer], "trouble": EVIL, "drift": EVIL, "warnings": [EVIL], "deploying": None,
                "notices": [{"address": EVIL, "problem": EVIL}],
                "last": row, "history": head, "channel": {"channel": EVIL, "state": EVIL}}  # fmt: skip

    async def releases() -> dict[str, Any]:
        one = {"id": EVIL, "version": EVIL, "standing": EVIL, "live": True, "fallback": True, "pinned": True,
               "revoked": EVIL, "created": EVIL, "by": EVIL, "signed_by": EVIL}  # fmt: skip
        return {"releases": [one], "deployments": [row], "history": head}

    async def health() -> dict[str, Any]:
        return {"healthy": False, "why": EVIL, "ms": 1, "asked": EVIL}

    shop.summary, shop.releases, shop.health = summary, releases, health  # type: ignore[method-assign]
    shop.lines = [LogLine(TIME, EVIL, EVIL)]


async def roll_back_in_markup(door: HttpDoor, shop: SimulatedApp) -> None:
    """A deployment whose every word is markup."""
    async with aiohttp.ClientSession() as session, session.post(f"http://{door.address}/rollback") as answer:
        await answer.read()
    one = shop.deployments[-1]
    one.happened.pop()
    one.publish(Happened.STEP_FAILED, step=EVIL, ms=1, problem={"title": EVIL})
    one.publish(Happened.OUTPUT, source=EVIL, text=EVIL)
    problem = {"title": EVIL, "detail": EVIL, "hint": EVIL, "output": EVIL}
    one.publish(
        Happened.FINISHED, outcome=EVIL, version=EVIL, by=EVIL, release=EVIL, previous=EVIL, problem=problem
    )
