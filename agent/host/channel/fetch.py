"""A bundle, fetched from the first mirror that has it, over as many attempts as it takes.

Invariant: a file with the name of a bundle has its size and digest, or it is removed. What has arrived of one
that is not whole yet stays for the next attempt, whichever mirror that asks.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from agent.host.channel.mirror import Mirror, Unreachable
from agent.host.releases.unpack import check_room
from agent.host.storage import volatile
from agent.host.storage.errors import explained
from agent.host.storage.partial import Partial, keep_only
from pusher.wire import Code, Failed, Problem
from pusher.wire.channel import BundleObject, object_name


async def fetch(
    bundle: BundleObject, mirrors: Sequence[Mirror], *, folder: Path, keep: frozenset[str] | None = None
) -> Path:
    """The file of a bundle, in `folder`. The mirrors are asked in turn. With `keep`, all other files go first.

    Raises: the problem with the last of them (Unreachable; Refused, Failed: limit_exceeded, content_mismatch,
    disk_full, disk_error).
    """
    part = Partial(folder / f"{bundle.sha256}.tar.zst", size=bundle.size)
    problem: Problem = Unreachable("No mirror was asked")
    for mirror in mirrors:
        # What another mirror has begun may be wrong: then this one is asked for all of it.
        for _ in range(2):
            begun = 0
            try:
                begun = await asyncio.to_thread(_make_room, folder, part, keep)
                await mirror.fetch(object_name(bundle.sha256), part)
                if await asyncio.to_thread(part.whole, bundle.sha256):
                    return part.path
                problem = _changed(mirror, bundle)
            except Problem as found:
                problem = found
                if problem.code in (Code.DISK_FULL, Code.DISK_ERROR):
                    raise
                if problem.code is not Code.LIMIT_EXCEEDED:
                    break
            await asyncio.to_thread(part.remove)
            if not begun:
                break
    raise problem


def _make_room(folder: Path, part: Partial, keep: frozenset[str] | None) -> int:
    """How much has arrived already; there is room for the rest. Blocking. Raises: Failed."""
    begun = part.arrived()
    with explained("make the folder", folder):
        volatile.make_folder(folder)
    if keep is not None:
        keep_only(folder, keep)
    check_room(folder, size=part.size - begun, files=1)
    return begun


def _changed(mirror: Mirror, bundle: BundleObject) -> Failed:
    return Failed(
        Code.CONTENT_MISMATCH,
        f"{mirror.address} sent another bundle than the channel names",
        why=f"it does not have the digest {bundle.sha256}",
        hint="Find out who changed the repository. Another mirror is tried by itself",
    )
