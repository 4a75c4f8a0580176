"""What all hosts say, as it changes: each is asked all the time by a thread of its own, while somebody looks.

Invariant: a host that does not answer delays no other, and nothing is asked when nobody has looked for a while.
"""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pusher.dashboard.connections import Connections
from pusher.fleet.history import check_history
from pusher.transport.client import Client
from pusher.wire import Code, Failed, Problem

EVERY_S = 0.6
_LOOKED_S = 15.0
_APPS_S = 30.0
_HEALTH_S = 10.0
_CLOCK_MS = 3_000
_TOGETHER_S = 0.1
"""How long changes are collected, so that those of many hosts are one."""

_SHOWN = (
    "app",
    "host",
    "live",
    "previous",
    "running",
    "trouble",
    "drift",
    "warnings",
    "deploying",
    "last",
    "disk",
)
_LIVE = ("version", "release", "since", "by", "signed_by")
_LAST = ("deployment", "kind", "version", "outcome", "by", "started", "ms")


class Watch:
    """Watches the hosts of `connections`. `app`: only this one. `folder` has the heads of histories seen."""

    def __init__(self, connections: Connections, *, app: str, folder: Path, every_s: float = EVERY_S) -> None:
        self._connections = connections
        self._app = app
        self._folder = folder
        self._every_s = every_s
        self._changed = threading.Condition()
        self._number = 1  # so that the first who asks gets the names at once
        self._found: list[dict[str, Any]] = [
            {"name": host.name, "apps": [], "problem": None, "asked": False, "ahead_ms": 0}
            for host in connections.hosts
        ]
        self._looked = 0.0
        self._begun = False
        self._ended = False

    def news(self, *, after: int, within_s: float) -> dict[str, Any]:
        """What is known of each host, as soon as it is newer than the look `after`; or `within_s` s later."""
        with self._changed:
            self._looked = time.monotonic()
            self._changed.notify_all()
            if not self._begun:
                self._begun = True
                for place in range(len(self._found)):
                    threading.Thread(target=self._ask_on, args=(place,), daemon=True).start()
            if self._changed.wait_for(lambda: self._number > after or self._ended, timeout=within_s):
                self._changed.wait_for(lambda: self._ended, timeout=_TOGETHER_S)
            self._looked = time.monotonic()
            return {"number": self._number, "hosts": [{**one} for one in self._found]}

    def close(self) -> None:
        """End the threads."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _ask_on(self, place: int) -> None:
        asking = Asking(app=self._app, folder=self._folder)
        while self._wanted():
            found: dict[str, Any] = {"problem": None, "asked": True}
            try:
                with self._connections.borrow(place) as client:
                    found["apps"] = asking.ask(client)
                    found["ahead_ms"] = ahead_ms(client.ahead_s, before=self._found[place]["ahead_ms"])
            except Problem as problem:
                found["problem"] = problem.to_document()
            except KeyboardInterrupt:
                return
            except Exception as error:
                # A bug of ours. Without a word, the last that was seen would stand there as if it were so.
                bug = Failed(Code.INTERNAL, "The dashboard met a bug of its own", why=repr(error)[:200])
                found["problem"] = bug.to_document()
            with self._changed:
                now = {**self._found[place], **found}
                if now != self._found[place]:
                    self._found[place] = now
                    self._number += 1
                    self._changed.notify_all()

    def _wanted(self) -> bool:
        """Wait until it is time to ask again, and somebody looks; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended, timeout=self._every_s)
            self._changed.wait_for(lambda: self._ended or time.monotonic() - self._looked < _LOOKED_S)
            return not self._ended


def ahead_ms(seen_s: float, *, before: int) -> int:
    """How far a host's clock is ahead. It is seen to a second: what is so near is as it was `before`, or right."""
    seen = round(seen_s * 1000)
    if abs(seen) < _CLOCK_MS:
        return 0
    return before if abs(seen - before) < _CLOCK_MS else seen


class Asking:
    """The questions to one host, with what need not be asked each time."""

    def __init__(self, *, app: str, folder: Path) -> None:
        self._app = app
        self._folder = folder
        self._apps: list[dict[str, Any]] = []
        self._asked = -_APPS_S
        self._health: dict[str, tuple[float, dict[str, Any] | None]] = {}
        self._heads: dict[str, object] = {}
        self._wrong: dict[str, dict[str, Any] | None] = {}

    def ask(self, client: Client) -> list[dict[str, Any]]:
        """How each app of a host does: the part of its status that is shown, or its `problem`. Raises: Problem."""
        if time.monotonic() - self._asked >= _APPS_S:
            found = client.apps().get("apps")
            self._apps = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
            self._asked = time.monotonic()
        answers = []
        for one in self._apps:
            name = str(one.get("app"))
            if self._app in ("", name):
                answers.append(self._status(client, name, one))
        return answers

    def _status(self, client: Client, name: str, one: Mapping[str, Any]) -> dict[str, Any]:
        if one.get("problem") is not None:
            return {"app": name, "problem": one["problem"]}
        try:
            status = client.status(name)
        except Problem as problem:
            if problem.exit_code != 4:
                raise
            return {"app": name, "problem": problem.to_document()}
        shown = {key: status.get(key) for key in _SHOWN}
        shown["live"] = _part(status.get("live"), _LIVE)
        shown["last"] = _part(status.get("last"), _LAST)
        shown["disk"] = _room(status.get("disk"))
        return {
            **shown,
            "app": name,
            "problem": None,
            "history": self._history(client, name, status),
            "health": self._healthy(client, name) if shown["live"] else None,
        }

    def _healthy(self, client: Client, name: str) -> dict[str, Any] | None:
        """What the app answers to its health check: asked more rarely, for each question is a request to it."""
        known = self._health.get(name)
        if known is None or time.monotonic() - known[0] >= _HEALTH_S:
            try:
                found = _part(client.health(name), ("healthy", "why"))
            except Problem as problem:
                if problem.exit_code != 4:
                    raise
                found = None  # an agent of before there was this question
            known = self._health[name] = time.monotonic(), found
        return known[1]

    def _history(self, client: Client, name: str, status: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is wrong with the app's history, as this user has seen it before."""
        head = status.get("history")
        if self._heads.get(name) != head:
            changed = check_history(client, status, folder=self._folder)
            self._heads[name], self._wrong[name] = head, changed.to_document() if changed else None
        return self._wrong.get(name)


def _room(disk: object) -> dict[str, int] | None:
    """How full the disk is, in thousandths: it changes by some bytes all the time, and that is no news."""
    free, total = (disk.get("free"), disk.get("total")) if isinstance(disk, Mapping) else (None, None)
    if not isinstance(free, int) or not isinstance(total, int) or total <= 0:
        return None
    return {"free": 1000 * free // total, "total": 1000}


def _part(found: object, members: tuple[str, ...]) -> dict[str, Any] | None:
    return {key: found.get(key) for key in members} if isinstance(found, Mapping) else None
