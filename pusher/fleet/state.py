"""Where this user's state lies, which is more than a cache: what was seen of hosts, channels and reports."""

import os
from collections.abc import Mapping
from pathlib import Path

from pusher.user_folder import user_folder


def state_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder, which may not be there yet."""
    return user_folder("XDG_STATE_HOME", ".local/state", environment)
