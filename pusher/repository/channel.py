"""The channel document of a repository: read, made anew, signed and put in place.

Invariant: nothing is signed that goes on from a document of unknown origin, or from one that is older than what
this user saw last: who can write into the repository must not get a signature from a timer that renews.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from pusher.bundle.sign import Signer, sign, signed_by
from pusher.repository.store import Found, Repository
from pusher.wire import Code, Refused, WireError, format_timestamp, parse_timestamp
from pusher.wire.channel import (
    CHANNEL_BYTES,
    CHANNEL_NAMESPACE,
    Channel,
    channel_name,
    join_signed,
    split_signed,
)

_DAY_MS = 24 * 3600 * 1000
AHEAD_MOST_MS = 5 * 60 * 1000
"""So far ahead of a clock a time may be that somebody has signed: hosts accept as much."""


@dataclass(frozen=True, slots=True)
class SignedChannel:
    """A channel document as it lies in the repository, and who signed it."""

    document: Channel
    found: Found
    signer: Signer


def has_channel(repository: Repository, app: str, channel: str) -> bool:
    """Whether a channel has a document, good or bad."""
    try:
        return repository.read(channel_name(app, channel), most=CHANNEL_BYTES) is not None
    except Refused:
        return True


class Channels:
    """The channels of one repository. `memory` is a folder with the newest `created` that was seen of each.

    `signers` is an allowed_signers file with the keys that may sign; without one, what anybody has signed is read,
    and only the key that signs now may have signed before. `now` returns milliseconds since 1970;
    `changed` is called with the app and channel of a document that was put in place.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        memory: Path,
        signers: Path | None = None,
        now: Callable[[], int] = lambda: int(time.time() * 1000),
        changed: Callable[[str, str], None] = lambda app, channel: None,
    ) -> None:
        self._repository = repository
        self._memory = memory
        self._signers = signers
        self._now = now
        self._changed = changed

    def read(self, app: str, channel: str) -> SignedChannel | None:
        """The document of a channel, None if there is none. Its signature is valid; whose it is says `signer`.

        Raises: Refused, if it is not well formed, is for another channel, or is older than one that was seen.
        """
        name = channel_name(app, channel)
        # Before the document is read: afterwards, another command may have published a newer one, and seen that.
        seen = self._seen(app, channel)
        found = self._repository.read(name, most=CHANNEL_BYTES)
        if found is None:
            return None
        try:
            raw, signature = split_signed(found.content)
            document = Channel.from_bytes(raw)
        except WireError as error:
            hint = "Remove it from the repository, and publish again: hosts go on from what they have"
            raise Refused(Code.CHANNEL_MALFORMED, f"{name} cannot be used", why=str(error), hint=hint) from error
        hint = (
            "If that key may sign for the channel, add it there. If not, find out who can write to the repository"
        )
        signer = self._signed_by(raw, signature, f"{name} was signed by a key that may not do that", hint=hint)
        if (document.app, document.channel) != (app, channel):
            raise Refused(
                Code.WRONG_CHANNEL,
                f"{name} is for {document.app}, {document.channel}",
                hint="It was put there by hand",
            )
        if document.created < seen:
            raise Refused(
                Code.OLDER_THAN_ACCEPTED,
                f"{name} is older than what was there before",
                why=f"it was signed at {format_timestamp(document.created)}; {format_timestamp(seen)} was seen",
                hint=f"Was the repository restored from a backup? Then remove {self._file(app, channel)}",
            )
        # Anybody may have signed it: what is remembered of a far future would lock out the true ones.
        if document.created <= self._now() + AHEAD_MOST_MS:
            self._remember(document)
        return SignedChannel(document, found, signer)

    def put(self, document: Channel, *, key: str, before: SignedChannel | None, days: int) -> Channel:
        """Sign a document and put it in the place of `before`. It is newer than that one, and good for `days`.

        Raises: Refused(signer_unknown, from_the_future, limit_exceeded, channel_changed); Usage, Failed, as
        `sign`.
        """
        now = self._now()
        created = now if before is None else max(now, before.document.created + 1)
        if before is not None and created > now + AHEAD_MOST_MS:
            by = f"by {before.signer.key_type} {before.signer.fingerprint}"
            raise Refused(
                Code.FROM_THE_FUTURE,
                "The channel document in the repository was signed in the future",
                why=f"it was signed at {format_timestamp(created - 1)}, {by}; here it is {format_timestamp(now)}",
                hint="Set the clock of this machine; or, if that is no key of yours, remove the document",
            )
        made = replace(document, created=created, expires=created + days * _DAY_MS)
        raw = made.to_bytes()
        signature = sign(raw, key=key, namespace=CHANNEL_NAMESPACE)
        name_key = "Name that key: --key FILE (publish: --channel-key FILE)"
        ours = self._signed_by(raw, signature, "This key may not sign for the channel", hint=name_key)
        if before is not None and self._signers is None and ours.fingerprint != before.signer.fingerprint:
            raise Refused(
                Code.SIGNER_UNKNOWN,
                "The channel document in the repository was signed by another key",
                why=f"{before.signer.key_type} {before.signer.fingerprint}, not {ours.fingerprint}",
                hint=f"{name_key}. Where several may sign: `signers` in pusher.toml, or --signers FILE",
            )
        content, tag = join_signed(raw, signature), before.found.tag if before else None
        if len(content) > CHANNEL_BYTES:
            raise Refused(
                Code.LIMIT_EXCEEDED,
                "The channel document would be too large",
                why=f"it has {len(content)} bytes, and nobody reads more than {CHANNEL_BYTES}",
                hint="Name fewer hosts in --waves, or a percentage",
            )
        self._repository.replace(channel_name(made.app, made.channel), content, tag=tag)
        self._remember(made)
        self._changed(made.app, made.channel)
        return made

    def _signed_by(self, raw: bytes, signature: bytes, what: str, *, hint: str) -> Signer:
        """Who has signed a document. Raises: Refused, with these words, if that key is not among the signers."""
        try:
            return signed_by(raw, signature, signers=self._signers, namespace=CHANNEL_NAMESPACE)
        except Refused as problem:
            if problem.code is not Code.SIGNER_UNKNOWN:
                raise
            why = f"{problem.why} ({self._signers})"
            raise Refused(problem.code, what, why=why, hint=hint) from problem

    def _file(self, app: str, channel: str) -> Path:
        return self._memory / quote(self._repository.address, safe="") / f"{app}.{channel}"

    def _seen(self, app: str, channel: str) -> int:
        try:
            return parse_timestamp(self._file(app, channel).read_text().strip())
        except (OSError, WireError, UnicodeDecodeError):
            return 0

    def _remember(self, document: Channel) -> None:
        """Remember the newest document; where that cannot be, nothing is remembered."""
        file = self._file(document.app, document.channel)
        if document.created <= self._seen(document.app, document.channel):
            return
        with suppress(OSError):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside = file.with_name(f".{file.name}.{os.getpid()}")
            aside.write_text(f"{format_timestamp(document.created)}\n")
            aside.replace(file)
