"""What the user's own ssh configuration says of a host: where an alias leads.

Invariant: ssh is asked, for nobody else reads its configuration as it does. Nothing is connected to.
"""

import subprocess
from typing import NamedTuple

from pusher.transport.hosts import Ssh, config_argv

_DEADLINE_S = 2.0


class Destination(NamedTuple):
    """The name or address that ssh connects to. `through` is set if it goes there through another host."""

    name: str
    through: bool = False


def destination(address: Ssh, *, ssh: str) -> Destination:
    """Where ssh goes for a host; to the host as it is named, where ssh does not tell. `ssh` is the command."""
    try:
        done = subprocess.run(
            config_argv(address, command=ssh),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_DEADLINE_S,
        )
    except (OSError, subprocess.TimeoutExpired):  # a wrapper may do whatever it likes
        return Destination(address.host)
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    through = any(said.get(key, "none") != "none" for key in ("proxyjump", "proxycommand"))
    return Destination(said.get("hostname") or address.host, through)
