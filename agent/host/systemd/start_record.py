"""Which release systemd started: told by when it did, for nothing in a running process says it reliably.

Invariant: a release is only named where it is certain. Times are CLOCK_MONOTONIC in microseconds, as systemd gives
them; the note lies in /run, so that it is about this boot, and has to survive nothing else.
"""

import contextlib
import os
import time
from pathlib import Path

from agent.host.ports import Placed
from agent.host.releases.store import ReleaseStore
from pusher.wire import Code, Failed, WireError


def now_us() -> int:
    """The time that is compared with systemd's."""
    return time.monotonic_ns() // 1000


def note_start(note: Path, release: str) -> None:
    """Remember what is going to be started, before it is. Blocking. Raises: Failed."""
    fresh = note.with_suffix(".new")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(f"{release} {now_us()}\n")
        fresh.replace(note)
    except OSError as error:
        raise Failed(Code.DISK_ERROR, f"Could not write {note}", why=error.strerror or str(error)) from error


def started_since(note: Path, started_us: int, *, store: ReleaseStore) -> Placed | None:
    """The live release, if what was started at that moment must be it. Blocking.

    It is not if it began before the agent last asked for a start, or the link was moved after that. In a boot
    in which the agent asked for none, systemd started what the link said.
    """
    live = store.live()
    try:
        noted, since = note.read_text().split()
        if noted != live or started_us < int(since):
            return None
    except (OSError, ValueError):
        pass
    try:
        return store.placed(live) if live else None
    except (OSError, WireError):
        return None


def replace_link(link: Path, target: str) -> None:
    """Point a link that matters until the next one: replaced in one go, not flushed. Blocking. Raises: Failed."""
    fresh = link.with_name(f"{link.name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        os.symlink(target, fresh)
        os.replace(fresh, link)
    except OSError as error:
        raise Failed(
            Code.DISK_ERROR,
            f"Could not point {link}",
            why=str(error),
            hint="`pusher-agent app apply NAME` as root makes its folder",
        ) from error
