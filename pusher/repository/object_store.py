"""A repository in a bucket that speaks S3.

Invariant: as on any web server, from its conditions to its bounds. The library signs addresses and lists objects,
by the usual variables (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and so on), and is imported only here.
"""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from pusher.errors import Unreachable, Usage
from pusher.repository.store import Item
from pusher.repository.web_folder import WebFolder
from pusher.transport.web_server import WebServer

_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([A-Za-z0-9._/-]*))?", re.ASCII)
_GOOD_FOR = timedelta(minutes=15)
_SHOWN = 200


class ObjectStore(WebFolder):
    """The repository at `s3://bucket/prefix`. Raises: Usage, also without the library."""

    login_hint = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. They need to list, get, put and delete there"

    def __init__(self, address: str) -> None:
        match = _ADDRESS.fullmatch(address)
        if not match or ".." in address:
            raise Usage(f"{address} is no repository", hint="It is like s3://bucket/prefix")
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError as error:
            hint = "Install it: pip install 'pusher-agent[s3]', or pipx inject pusher-agent 'obstore'"
            raise Usage(f"{address} needs the library obstore", why=str(error), hint=hint) from error
        shown = address.rstrip("/")
        try:
            # http:// is for this machine alone: the server below sees to that.
            self._store = S3Store(
                match[1],
                prefix=match[2] or None,
                client_options={"allow_http": True, "timeout": "30s", "connect_timeout": "10s"},
                retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=30)},
            )
        except Exception as error:  # the library has no base of its errors that says more
            raise Usage(f"{shown} cannot be used", why=_first_line(error)) from error

        def sign(method: str, name: str) -> str:
            verb: Any = method
            try:
                return obstore.sign(self._store, verb, name, _GOOD_FOR)
            except Exception as error:
                raise Unreachable(
                    f"{shown} cannot be asked", why=_first_line(error), hint=self.login_hint
                ) from error

        def target(method: str, name: str) -> str:
            parts = urlsplit(sign(method, name))
            return f"{parts.path}?{parts.query}"

        where = urlsplit(sign("GET", "x"))
        server = WebServer(f"{where.scheme}://{where.netloc}", sign=target, shown=shown)
        super().__init__(shown, server=server)

    def names(self, prefix: str) -> list[Item]:
        """As in the port."""
        import obstore

        folder = prefix.rpartition("/")[0]
        try:
            found = [one for page in obstore.list(self._store, folder or None) for one in page]
        except Exception as error:
            what = f"{self.address} cannot be listed"
            raise Unreachable(what, why=_first_line(error), hint=self.login_hint) from error
        items = (Item(one["path"], one["size"], one["last_modified"].timestamp()) for one in found)
        return sorted(one for one in items if one.name.startswith(prefix))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:_SHOWN]
