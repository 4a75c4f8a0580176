"""Where an app answers, as the person who deployed it would type it."""

from collections.abc import Mapping
from typing import Any

from pusher.transport.hosts import Host, Ssh

_EVERYWHERE = ("0.0.0.0", "[::]", "*")  # noqa: S104 - compared with, not bound
_ITSELF = ("127.", "localhost:", "[::1]:")


def served_at(status: Mapping[str, Any], host: Host) -> str:
    """The address of an app that listens as its agent says. Empty, if the agent does not say it.

    A URL, if it can be reached from here as far as is known: a name that only this user's ssh knows cannot be told
    from one that others know.
    """
    listen = status.get("listen")
    if not isinstance(listen, str) or not listen:
        return ""
    if listen.startswith("unix:") or (listen.startswith(_ITSELF) and isinstance(host.address, Ssh)):
        return f"{listen} on {host.name}"
    place, _, port = listen.rpartition(":")
    if place in _EVERYWHERE:
        place = host.address.host if isinstance(host.address, Ssh) else "127.0.0.1"
        place = f"[{place}]" if ":" in place else place
    return f"http://{place}{'' if port == '80' else f':{port}'}/"
