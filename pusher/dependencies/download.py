"""Files of packages, fetched to the sender: for `wheels = true`, and for archives that a lock names.

Invariant: a file is used only if its digest is one that the lock has.
"""

import hashlib
import netrc
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from pusher.errors import Usage

_CHUNK = 256 * 1024
_PATIENCE_S = 60


def download(url: str, into: Path, *, hashes: Collection[str]) -> None:
    """Fetch `url` into a file. Raises: Usage, also if its digest is not among `hashes`."""
    if not url.startswith(("https://", "http://")):
        raise Usage(f"{into.name} cannot be fetched", why=f"{url} is neither https nor http")
    digests = {kind: hashlib.new(kind) for kind in ("sha256", "sha384", "sha512")}
    request = urllib.request.Request(url.partition("#")[0], headers=_login(url))  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer, into.open("wb") as out:  # noqa: S310
            while chunk := answer.read(_CHUNK):
                out.write(chunk)
                for digest in digests.values():
                    digest.update(chunk)
    except (OSError, urllib.error.URLError) as error:
        raise Usage(f"{into.name} cannot be fetched", why=str(error), hint=f"From {url}") from error
    found = {f"{kind}:{digest.hexdigest()}" for kind, digest in digests.items()}
    if not found & {*hashes}:
        into.unlink()
        raise Usage(f"{into.name} cannot be used", why="its digest is not the one in the lock", hint=f"From {url}")


def _login(url: str) -> dict[str, str]:
    """The user's own login for a host, from netrc(5)."""
    try:
        known = netrc.netrc().authenticators(urlsplit(url).hostname or "")
    except (OSError, netrc.NetrcParseError):
        known = None
    if not known or not url.startswith("https://"):
        return {}
    return {"Authorization": "Basic " + b64encode(f"{known[0]}:{known[2] or ''}".encode()).decode()}
