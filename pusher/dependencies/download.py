"""Files of packages, fetched to the sender: for `wheels = true`, and for archives that a lock names.

Invariant: a file is used only if its digest is one that the lock has. A login goes to the host that it is for, and
into no message.
"""

import hashlib
import http.client
import netrc
import urllib.request
from base64 import b64encode
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pusher.bundle.commit import without_login
from pusher.errors import Usage

_CHUNK = 256 * 1024
_PATIENCE_S = 60


def download(url: str, into: Path, *, hashes: Collection[str]) -> None:
    """Fetch `url` into a file. Raises: Usage, also if its digest is not among `hashes`."""
    shown = without_login(url)
    if not url.startswith(("https://", "http://")):
        raise Usage(f"{into.name} cannot be fetched", why=f"{shown} is neither https nor http")
    digests = {kind: hashlib.new(kind) for kind in ("sha256", "sha384", "sha512")}
    try:
        request = urllib.request.Request(shown.partition("#")[0], headers=_login(url))  # noqa: S310 - checked above
        opened = urllib.request.build_opener(_Redirects).open(request, timeout=_PATIENCE_S)
        with opened as answer, into.open("wb") as out:
            while chunk := answer.read(_CHUNK):
                out.write(chunk)
                for digest in digests.values():
                    digest.update(chunk)
    except (OSError, ValueError, http.client.HTTPException) as error:  # an address may be none
        raise Usage(f"{into.name} cannot be fetched", why=str(error), hint=f"From {shown}") from error
    found = {f"{kind}:{digest.hexdigest()}" for kind, digest in digests.items()}
    if not found & {*hashes}:
        into.unlink()
        why = "its digest is not the one in the lock"
        raise Usage(f"{into.name} cannot be used", why=why, hint=f"From {shown}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """An index may lead to a store of another owner. That must not get the login, and would not accept it."""

    def redirect_request(self, req: urllib.request.Request, *rest: Any) -> urllib.request.Request | None:
        found = super().redirect_request(req, *rest)
        if found is not None and urlsplit(found.full_url)[:2] != urlsplit(req.full_url)[:2]:
            found.remove_header("Authorization")
            found.headers.update(_login(found.full_url))
        return found


def _login(url: str) -> dict[str, str]:
    """The header with the login for a host: that in the address itself, or the user's own, from netrc(5)."""
    parts = urlsplit(url)
    if parts.username is not None:
        login, password = unquote(parts.username), unquote(parts.password or "")
    else:
        try:
            known = netrc.netrc().authenticators(parts.hostname or "")
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            known = None
        if not known or parts.scheme != "https":
            return {}
        login, password = known[0], known[2] or ""
    return {"Authorization": "Basic " + b64encode(f"{login}:{password}".encode()).decode()}
