"""Who may publish by HTTP: logins, and the digests of their passwords.

Invariant: the file with them is no secret that lets anybody in. That holds because passwords are long and random,
made by `pusher-agent repository login`; a slow digest would only let strangers keep the processor busy.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping

_PREFIX = "sha256:"


def make_password() -> tuple[str, str]:
    """A new password of 256 random bits, and its digest as the server's file has it."""
    password = secrets.token_urlsafe(32)
    return password, f"{_PREFIX}{hashlib.sha256(password.encode()).hexdigest()}"


class Logins:
    """The publishers by name, with the digests of their passwords (`sha256:` and 64 hex digits)."""

    def __init__(self, publishers: Mapping[str, str]) -> None:
        self._publishers = dict(publishers)

    def __bool__(self) -> bool:
        return bool(self._publishers)

    def who(self, authorization: str) -> str:
        """The publisher whom this header names (RFC 7617); empty, if it proves nobody."""
        scheme, _, word = authorization.partition(" ")
        if scheme.lower() != "basic":
            return ""
        try:
            name, _, password = base64.b64decode(word.strip(), validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return ""
        found = hashlib.sha256(password.encode()).hexdigest()
        # An unknown name takes as long as a wrong password.
        wanted = self._publishers.get(name, _PREFIX).removeprefix(_PREFIX)
        return name if hmac.compare_digest(found, wanted) and name in self._publishers else ""
