"""The start record: which release the agent last asked systemd to start, and when.

Invariant: a release is named only where it is certain; nothing in a running process says it reliably. Times are
CLOCK_MONOTONIC in microseconds, as systemd gives them. The record lies in /run: it is about this boot, and need
not survive a power cut.
"""

import time
from pathlib import Path

from agent.host.ports import Placed
from agent.host.releases.store import ReleaseStore
from agent.host.storage import volatile
from agent.host.storage.errors import explained
from pusher.wire import Failed, WireError


def now_us() -> int:
    """The present time, comparable with systemd's."""
    return time.monotonic_ns() // 1000


def write_start_record(path: Path, release: str) -> None:
    """Record the release that is about to be started. Blocking. Raises: Failed(disk_full, disk_error)."""
    with explained("write", path):
        volatile.make_folder(path.parent)
        volatile.write(path, f"{release} {now_us()}\n")


def started_release(record: Path, started_us: int, *, store: ReleaseStore) -> Placed | None:
    """The live release, if a process that started at `started_us` must be running it. Blocking.

    It need not if the process began before the agent last asked for a start, or if the link `current` was moved
    after that. Without a record in this boot, systemd started the release that the link names.
    """
    live = store.live()
    try:
        recorded, since = record.read_text("utf-8").split()
        if recorded != live or started_us < int(since):
            return None
    except (OSError, ValueError):
        pass
    try:
        return store.placed(live) if live else None
    except (OSError, WireError):
        return None


def point_candidate(link: Path, release: Path) -> None:
    """Point the link that the preflight unit starts from at a release. Blocking.

    Raises: Failed(disk_full, disk_error).
    """
    try:
        with explained("point", link):
            volatile.point(link, str(release))
    except Failed as problem:
        if link.parent.is_dir():
            raise
        hint = "`pusher-agent app apply NAME` as root makes its folder"
        raise Failed(problem.code, problem.what, why=problem.why, hint=hint) from problem
