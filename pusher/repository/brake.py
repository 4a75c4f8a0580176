"""The brake of a channel: an object whose existence keeps every host from beginning.

Invariant: it is unsigned, because it can only stop. What is in it is for people.
"""

import json

from pusher.repository.store import Repository
from pusher.wire import Code, Refused
from pusher.wire.channel import brake_name

_BYTES = 64 * 1024


def is_braked(repository: Repository, app: str, channel: str) -> bool:
    """Whether the brake is set. One that cannot be read counts."""
    try:
        return repository.read(brake_name(app, channel), most=_BYTES) is not None
    except Refused:
        return True


def set_brake(repository: Repository, app: str, channel: str, *, why: str) -> None:
    """Set the brake, if it is not set."""
    if is_braked(repository, app, channel):
        return
    content = json.dumps({"why": why}).encode() + b"\n"
    try:
        repository.replace(brake_name(app, channel), content, tag=None)
    except Refused as problem:
        if problem.code is not Code.CHANNEL_CHANGED:  # somebody else has just set it
            raise


def release_brake(repository: Repository, app: str, channel: str) -> None:
    """Release the brake, if it is set."""
    repository.remove(brake_name(app, channel))
