"""Ringing the bell of a channel, where the web server does not see by itself that a document was replaced.

Invariant: a bell is a hint. One that cannot be rung costs hosts a minute, and the publisher nothing.
"""

import urllib.error
import urllib.request
from urllib.parse import urlsplit

from pusher.errors import Unreachable

_DEADLINE_S = 5.0


def is_bus(address: str) -> bool:
    """Whether a bell is that of NATS."""
    return address.startswith(("nats://", "tls://"))


def ring(address: str, app: str, channel: str, *, credentials: str = "") -> None:
    """Ring the bell of a channel at a web server (nchan's publisher, packaging/nginx/), or in NATS.

    `credentials` is a file for the latter. Raises: Unreachable, Usage.
    """
    if is_bus(address):
        from pusher.repository import nats_bus  # here: it needs a library that others have no use for

        nats_bus.ring(address, app, channel, credentials=credentials)
        return
    from pusher.transport.web_server import is_here  # here: most commands ring nothing, and it takes a while

    url = f"{address.rstrip('/')}/ring/{app}/{channel}"
    # A proxy would look for this machine's bell at its own.
    direct = [urllib.request.ProxyHandler({})] if is_here(urlsplit(url).hostname or "") else []
    try:
        request = urllib.request.Request(url, data=b"changed\n", method="POST")  # noqa: S310 - checked by settings
        with urllib.request.build_opener(_NoRedirect, *direct).open(request, timeout=_DEADLINE_S) as response:
            response.read(1024)
    except (OSError, ValueError, urllib.error.URLError) as error:
        hint = "Hosts notice it at their next poll. Correct `bell` in pusher.toml"
        raise Unreachable(f"The bell {url} could not be rung", why=str(error), hint=hint) from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer that leads elsewhere is an error: to follow it, the library would only read what is there."""

    def redirect_request(self, *arguments: object, **others: object) -> None:
        """None: it is not followed."""
