"""The answers of a scripted agent, and what was sent to it."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path

from pusher import __version__
from pusher.bundle.archive import Bundle, read_bundle
from pusher.wire import Event, Failed, Happened, Refused, Stuck
from tests.unit.scripted_door import Exchange, ScriptedDoor, answer, note

Run = Callable[..., int]

DEPLOYMENT = "flask-demo-20261123020055Z"
STARTED = answer({"deployment": DEPLOYMENT, "app": "flask-demo"}, status=202)
STATUS = {
    "app": "flask-demo",
    "host": "web1.example.com",
    "agent": __version__,
    "live": {"release": "20261123020000Z", "version": "v2"},
    "previous": None,
    "newest_created": None,
    "deploying": None,
    "running": True,
    "listen": "0.0.0.0:8000",
}
ABOUT = {
    "deployment": DEPLOYMENT,
    "app": "flask-demo",
    "kind": "deploy",
    "version": "v3",
    "release": "20261123020055Z",
    "by": "alice",
}
STEP = Event(2, 0, Happened.STEP_DONE, {"step": "unpack", "ms": 12})
DONE = Event(3, 0, Happened.FINISHED, {**ABOUT, "outcome": "done", "ms": 640})
EVENTS = f"/deployments/{DEPLOYMENT}/events"
UPLOAD = "/apps/flask-demo/deployments"


def ended(problem: Failed | Refused | Stuck, *, outcome: str = "failed") -> Event:
    return Event(3, 0, Happened.FINISHED, {**ABOUT, "outcome": outcome, "problem": problem.to_document(), "ms": 9})


def sent(door: ScriptedDoor, tmp_path: Path) -> list[Bundle]:
    """The bundles that came to the door, one file each."""
    found = []
    for at, request in enumerate(one for one in door.requests if one.body):
        file = tmp_path / f"sent-{at}"
        file.write_bytes(request.body)
        found.append(read_bundle(file))
    return found


def interrupt(exchange: Exchange) -> None:
    """Press Ctrl-C while the command waits for the answer."""
    note(exchange)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    exchange.rfile.read(1)
