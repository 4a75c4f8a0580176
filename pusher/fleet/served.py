"""Where an app answers, as the person who deployed it would type it."""

from collections.abc import Mapping
from typing import Any

from pusher.transport.hosts import Host, Ssh
from pusher.transport.ssh_config import Destination, destination

_EVERYWHERE = ("0.0.0.0", "[::]", "*")  # noqa: S104 - compared with, not bound
_ITSELF = ("127.", "localhost:", "[::1]:")


def served_at(status: Mapping[str, Any], host: Host, *, ssh: str) -> str:
    """The address of an app that listens as its agent says. Empty, if the agent does not say it.

    A URL, if it can be reached from here as far as is known. An alias of the user's ssh is none for a browser:
    the name or address behind it is told. `ssh` is the command.
    """
    listen = status.get("listen")
    if not isinstance(listen, str) or not listen:
        return ""
    if listen.startswith("unix:") or (listen.startswith(_ITSELF) and isinstance(host.address, Ssh)):
        return f"{listen} on {host.name}"
    place, _, port = listen.rpartition(":")
    if place in _EVERYWHERE:
        address = host.address
        there = destination(address, ssh=ssh) if isinstance(address, Ssh) else Destination("127.0.0.1")
        if there.through:  # another host may reach it, and this one perhaps not
            return f"port {port} of {there.name}"
        place = f"[{there.name}]" if ":" in there.name else there.name
    return f"http://{place}{'' if port == '80' else f':{port}'}/"
