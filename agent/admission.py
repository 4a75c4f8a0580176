"""`receive` and `verify`: from bytes of unknown origin to papers that are trusted and durable.

Invariant: nothing is believed, stored or counted before the signature holds; what is refused here has
changed nothing.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.core import trust
from agent.core.config import AppConfig, BundleLimits
from agent.host import signers
from agent.host.ports import Bundle, Clock
from pusher.wire import Code, Entry, File, Manifest, Refused, WireError, read_index

_SIGNATURE_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Papers:
    """A manifest whose signature holds. `digest` is the SHA-256 of its bytes, which name the deployment."""

    manifest: Manifest
    raw: bytes
    signature: bytes
    digest: str
    signer: str


@dataclass(frozen=True, slots=True)
class Admission:
    """What one app of this host lets in."""

    app: str
    config: AppConfig
    host: str
    limits: BundleLimits
    allowed_signers: Path
    clock: Clock

    async def receive(self, bundle: Bundle) -> Papers:
        """The papers of a bundle, checked in all that does not depend on what was accepted before.

        Raises: Refused, for what is malformed, not signed by somebody trusted, or meant for elsewhere.
        """
        raw, signature = await asyncio.to_thread(bundle.papers)
        signer = await asyncio.to_thread(
            signers.verify,
            raw,
            signature,
            allowed_signers=self.allowed_signers,
            deadline_s=_SIGNATURE_DEADLINE_S,
        )
        try:
            manifest = Manifest.from_bytes(raw)
        except WireError as error:
            raise _malformed(error) from error
        return Papers(manifest, raw, signature, hashlib.sha256(raw).hexdigest(), signer.principal)

    def judge(self, papers: Papers, *, newest_accepted: int | None) -> None:
        """Refuse what is for another app or host, expired, too new, too old or too large. Raises: Refused."""
        trust.judge(
            papers.manifest,
            app=self.app,
            host=self.host,
            now=self.clock.now(),
            newest_accepted=newest_accepted,
            limits=self.limits,
        )

    def entries(self, papers: Papers, bundle: Bundle) -> Iterator[tuple[bytes, Entry]]:
        """The lines of the index with their entries, judged one by one and, at the end, as a whole.

        Blocking. Raises: Refused, at the line that is wrong or at the end, where the digest shows it.
        """
        manifest, digest = papers.manifest, hashlib.sha256()
        lines: list[bytes] = []

        def hashed(source: Iterable[bytes]) -> Iterator[bytes]:
            for line in source:
                digest.update(line)
                lines.append(line)
                yield line

        count = total = 0
        names: set[str] = set()
        try:
            for entry in read_index(hashed(bundle.index(manifest.index_size)), limits=self.limits.tree):
                trust.judge_name(entry.path, shared=self.config.shared)
                names.add(entry.path)
                count += 1
                total += entry.size if isinstance(entry, File) else 0
                yield lines.pop(), entry
        except WireError as error:
            raise _malformed(error) from error
        if digest.hexdigest() != manifest.index_sha256:
            raise Refused(
                Code.CONTENT_MISMATCH,
                "The bundle's index is not the one that was signed",
                hint="Pack and sign it again",
            )
        if (count, total) != (manifest.files, manifest.unpacked_size):
            raise _malformed(f"the manifest counts {manifest.files} files of {manifest.unpacked_size} bytes")
        trust.judge_requirements(names, requirements=self.config.dependencies.requirements)


def _malformed(reason: object) -> Refused:
    return Refused(
        Code.BUNDLE_MALFORMED,
        "The bundle is not of the format this agent reads",
        why=str(reason),
        hint="Pack it with `pusher pack`, of the agent's version or a newer one",
    )
