"""The signatures of a manifest, and whether they are those that an app asks for.

Invariant: a number of signatures within the limit, and each in its exact form, before any is verified. A forged
one refuses the bundle, however many good ones stand beside it.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from agent.core.config.host import AgentConfig
from agent.core.layout import HostLayout
from agent.core.signing import Signer, SigningRules
from agent.core.sshsig import read_envelope
from agent.host.bundle.signers import verify
from pusher.wire import Code, LimitError, Refused, split_signatures

DEADLINE_S = 10.0
"""How long all signatures of a manifest may take to verify."""


@dataclass(frozen=True, slots=True)
class TrustFiles:
    """The files that say whose signatures count. Both are root's, and read anew for each decision."""

    allowed_signers: Path
    revoked_keys: Path | None = None


def trust_files(layout: HostLayout, host: AgentConfig) -> TrustFiles:
    """The files that say whose signatures count."""
    return TrustFiles(layout.allowed_signers, layout.beneath(host.revoked_keys) if host.revoked_keys else None)


def verify_all(
    manifest: bytes,
    signatures: bytes,
    *,
    files: TrustFiles,
    rules: SigningRules,
    at: str = "",
    deadline_s: float = DEADLINE_S,
) -> list[Signer]:
    """The signers that count, at least as many as `rules` require. Blocking.

    `at` as for `agent.host.bundle.signers.verify`. Raises: as that; Refused(limit_exceeded, signatures_missing,
    touch_missing).
    """
    try:
        parts = split_signatures(signatures)
    except LimitError as error:
        raise Refused(
            Code.LIMIT_EXCEEDED, "The bundle cannot be read", why=str(error), hint="Pack and sign it again"
        ) from error
    envelopes = [read_envelope(part) for part in parts]
    deadline = time.monotonic() + deadline_s
    signers: list[Signer] = []
    refusals: list[Refused] = []
    for part, envelope in zip(parts, envelopes, strict=True):
        left = deadline - time.monotonic()
        try:
            signer = verify(
                manifest,
                part,
                allowed_signers=files.allowed_signers,
                revoked_keys=files.revoked_keys,
                at=at,
                deadline_s=left,
            )
            rules.check_hardware(envelope)
            signers.append(signer)
        except Refused as refusal:
            if refusal.code not in (Code.SIGNER_UNKNOWN, Code.SIGNER_REVOKED, Code.TOUCH_MISSING):
                raise
            refusals.append(refusal)
    return rules.check_number(signers, refusals)
