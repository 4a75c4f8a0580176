"""Which releases may not be rolled back to, because the keys that signed them have ended.

Invariant: a release counts as revoked unless its own signatures, kept beside it, are verified against the files as
they are now. Only time stands still: validity periods are checked for the moment of its acceptance, so a key that
merely expired does not end its releases. The live release, and the return to it, are no business of this (ADR 15).

Where it cannot be found out, because no process can be started, say, nothing is deleted for that, and no rollback
goes further back.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from agent.core.layout import AppLayout, metadata_folder
from agent.core.releases import Release
from agent.core.signing import SigningRules
from agent.host.bundle.signatures import TrustFiles, verify_all
from pusher.wire import MANIFEST_NAME, SIGNATURE_NAME, Code, LimitError, Problem, split_signatures

_UNKNOWN = frozenset({Code.CONFIGURATION, Code.TIMED_OUT})
"""The problems of this host with verifying anything: they say nothing about a release."""


class Revocations:
    """The revoked releases of one app. Everything here blocks: call it in a thread.

    `allowed` are the releases that root lets be rolled back to all the same.
    """

    def __init__(
        self, layout: AppLayout, *, files: TrustFiles, rules: SigningRules, allowed: Collection[str] = ()
    ) -> None:
        self._layout = layout
        self._files = files
        self._rules = rules
        self._allowed = frozenset(allowed)
        self._known: dict[bytes, str] = {}
        self._digest = b""

    def why(self, release: str, *, sure: bool = False) -> str:
        """Why a release may not be rolled back to; empty if it may.

        If that cannot be found out, it may not. Raises: Refused, Failed, with `sure` instead.
        """
        if release in self._allowed:
            return ""
        folder = metadata_folder(self._layout.release(release))
        try:
            manifest, signatures = (folder / MANIFEST_NAME).read_bytes(), (folder / SIGNATURE_NAME).read_bytes()
        except OSError as error:
            return f"its signature cannot be read: {error.strerror}"
        key = b"\0".join(hashlib.sha256(part).digest() for part in (release.encode(), manifest, signatures))
        self._forget_if_changed()
        if (known := self._known.get(key)) is not None:
            return known
        try:
            verify_all(manifest, signatures, files=self._files, rules=self._rules_of(signatures), at=release)
        except Problem as problem:
            if problem.code not in _UNKNOWN:
                self._known[key] = problem.why
            elif sure:
                raise
            return problem.why
        self._known[key] = ""
        return ""

    def among(self, releases: Iterable[Release]) -> dict[str, str]:
        """The revoked ones among some releases, by id, with the reason."""
        return {one.id: why for one in releases if (why := self.why(one.id))}

    def until_allowed(
        self, releases: Iterable[Release], *, sure: bool = False
    ) -> tuple[Release | None, dict[str, str]]:
        """The first release that is not revoked, and those before it, by id, with the reason. `sure`: as `why`."""
        revoked: dict[str, str] = {}
        for one in releases:
            why = self.why(one.id, sure=sure)
            if not why:
                return one, revoked
            revoked[one.id] = why
        return None, revoked

    def _rules_of(self, signatures: bytes) -> SigningRules:
        """What is asked of a kept release: no more signatures than it came with.

        An app that asks for two today would otherwise have nothing left to roll back to. Touch and PIN were asked
        for when the release was accepted.
        """
        try:
            carried = len(split_signatures(signatures))
        except LimitError:
            carried = 1  # verify_all refuses it
        return replace(self._rules, required=min(self._rules.required, carried), touch=False, pin=False)

    def _forget_if_changed(self) -> None:
        """Keep results only as long as the two files have the same content."""
        digest = b"".join(
            _digest(file) for file in (self._files.allowed_signers, self._files.revoked_keys) if file
        )
        if digest != self._digest:
            self._digest, self._known = digest, {}


def _digest(file: Path) -> bytes:
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError:
        return bytes(32)
