"""Where a user's own files lie: the XDG Base Directory Specification.

https://specifications.freedesktop.org/basedir-spec/
"""

import os
from collections.abc import Mapping
from pathlib import Path

_NO_HOME = "/nonexistent"
"""The home of users who have none, as Debian has it. It cannot be written."""


def user_folder(variable: str, usual: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Our folder in the one that `variable` names, by default in `usual`, a path in the user's home."""
    named = environment.get(variable, "")
    if not os.path.isabs(named):
        named = os.path.expanduser(f"~/{usual}")
    # A user without a home, as in a container: a folder called `~` would be made here, and sent along.
    return Path(named if os.path.isabs(named) else f"{_NO_HOME}/{usual}") / "pusher"
