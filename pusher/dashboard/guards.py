"""Whether a request comes from the page of this run, in the browser of the person who began it.

Invariant: it is asked first, and does nothing else. Who cannot say the secret gets nothing. Another page that
makes a browser send requests does not know it, and the browser says where each comes from: no script changes that.
"""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from pusher.wire import Code, Refused

_HINT = "Open the address that `pusher dashboard` printed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """What a request says of itself: each header as often as it is there."""

    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    sites: Sequence[str] = ()
    cookies: Sequence[str] = ()
    kinds: Sequence[str] = ()


class Guard:
    """Checks the requests to one run, at this port. Its secrets are made here, and are gone with it."""

    def __init__(self, port: int) -> None:
        self._names = (f"127.0.0.1:{port}", f"localhost:{port}")
        # Browsers do not tell cookies of other ports apart: two runs must not take each other's away.
        self._cookie = f"pusher-{port}"
        self._value = secrets.token_urlsafe(32)
        self._secret = secrets.token_urlsafe(32)
        self._ticket = secrets.token_urlsafe(32)
        self._port = port

    @property
    def address(self) -> str:
        """The address for a person to open, as often as they like."""
        return f"http://127.0.0.1:{self._port}/?secret={self._secret}"

    @property
    def once(self) -> str:
        """An address that is good once: other users can see what a browser is started with."""
        return f"http://127.0.0.1:{self._port}/?secret={self._ticket}"

    def admit(self, secret: str) -> str:
        """The `Set-Cookie` for who brings the secret of an address. Raises: Refused(not_allowed)."""
        if _same(secret, self._ticket):
            self._ticket = secrets.token_urlsafe(32)
        elif not _same(secret, self._secret):
            raise _refused("it has a wrong secret, or one that was used")
        return f"{self._cookie}={self._value}; Path=/; HttpOnly; SameSite=Strict"

    def check_source(self, headers: Headers, *, changes: bool) -> None:
        """Refuse what another server was meant by, and what another page asks for. What changes something must say
        that it comes from the page itself. Raises: Refused(not_allowed).
        """
        if len(headers.hosts) != 1 or headers.hosts[0] not in self._names:
            raise _refused(f"its Host is {_said(headers.hosts)}")
        own, origins, sites = f"http://{headers.hosts[0]}", [*headers.origins], [*headers.sites]
        if origins != [own] and (changes or origins):
            raise _refused(f"its Origin is {_said(origins)}")
        if sites != ["same-origin"] and (changes or sites not in ([], ["none"])):
            raise _refused(f"its Sec-Fetch-Site is {_said(sites)}")
        # A form cannot send this type, and a script of another page not without asking first.
        if changes and [*headers.kinds] != ["application/json"]:
            raise _refused(f"its Content-Type is {_said(headers.kinds)}")

    def check_cookie(self, headers: Headers) -> None:
        """Refuse who was not let in by the secret. Raises: Refused(not_allowed)."""
        pairs = (part.strip().partition("=") for line in headers.cookies for part in line.split(";"))
        if not any(name == self._cookie and _same(value, self._value) for name, _, value in pairs):
            raise _refused("it does not have the cookie of this run")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _said(values: Sequence[str]) -> str:
    return " and ".join(value[:200].encode("ascii", "backslashreplace").decode() for value in values) or "missing"


def _refused(why: str) -> Refused:
    return Refused(Code.NOT_ALLOWED, "The request is not served", why=why, hint=_HINT)
