"""`receive` and `verify`: from bytes of unknown origin to papers that are trusted and durable.

Invariant: nothing is believed, stored or counted before the signature holds; what is refused here has
changed nothing.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path

from agent.core import trust
from agent.core.config import AppConfig, BundleLimits
from agent.host.bundle import signers
from agent.host.ports import Bundle, Clock
from agent.host.releases.unpack import check_room, write_metadata
from agent.host.storage.disk import Disk
from pusher.wire import Code, Entry, File, LimitError, Manifest, Refused, WireError, read_index

_SIGNATURE_DEADLINE_S = 10.0
_BATCH = 256


@dataclass(frozen=True, slots=True)
class VerifiedManifest:
    """A manifest whose signature holds. `digest` is the SHA-256 of its bytes, which name the deployment.

    The times are what the two steps took, in milliseconds.
    """

    manifest: Manifest
    raw: bytes
    signature: bytes
    digest: str
    signer: str
    receive_ms: int
    verify_ms: int


@dataclass(frozen=True, slots=True)
class Admission:
    """What one app of this host lets in."""

    app: str
    config: AppConfig
    host: str
    limits: BundleLimits
    allowed_signers: Path
    disk: Disk
    clock: Clock

    async def receive(self, bundle: Bundle) -> VerifiedManifest:
        """The papers of a bundle, checked in all that does not depend on what was accepted before.

        Raises: Refused, for what is malformed, not signed by somebody trusted, or meant for elsewhere.
        """
        began = self.clock.elapsed()
        raw, signature = await asyncio.to_thread(bundle.signed_manifest)
        received = self.clock.elapsed()
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
        return VerifiedManifest(
            manifest,
            raw,
            signature,
            digest=hashlib.sha256(raw).hexdigest(),
            signer=signer.principal,
            receive_ms=round((received - began) * 1000),
            verify_ms=round((self.clock.elapsed() - received) * 1000),
        )

    def judge(self, verified: VerifiedManifest, *, newest_accepted: int | None, again: bool) -> None:
        """Refuse what is for another app or host, too large, or not fresh; as `trust.judge`. Raises: Refused."""
        trust.judge(
            verified.manifest,
            app=self.app,
            host=self.host,
            now=self.clock.now(),
            newest_accepted=newest_accepted,
            limits=self.limits,
            again=again,
        )

    def store(self, verified: VerifiedManifest, bundle: Bundle, into: Path) -> None:
        """Begin the tree `into` with the signed verified, durably. Blocking.

        Raises: Refused, with a part of it left behind for the caller to drop; Failed.
        """
        self.disk.make_folders(into.parent, op="papers.staging")
        check_room(into.parent, size=verified.manifest.unpacked_size, files=verified.manifest.files)
        write_metadata(
            into,
            manifest=verified.raw,
            signature=verified.signature,
            index=_batches(line for line, _ in self._judged(verified, bundle)),
            disk=self.disk,
        )

    def entries(self, verified: VerifiedManifest, bundle: Bundle) -> Iterator[Entry]:
        """The entries of the index, judged one by one, and at the end as a whole. Blocking.

        Raises: Refused, at the line that is wrong, or at the end, where the digest shows it.
        """
        return (entry for _, entry in self._judged(verified, bundle))

    def _judged(self, verified: VerifiedManifest, bundle: Bundle) -> Iterator[tuple[bytes, Entry]]:
        """Each line with its entry, as `entries`."""
        manifest, digest = verified.manifest, hashlib.sha256()

        def hashed(lines: Iterable[bytes]) -> Iterator[bytes]:
            for line in lines:
                digest.update(line)
                yield line

        count = total = 0
        requirements = self.config.dependencies.requirements
        found: set[str] = set()
        try:
            lines, again = tee(hashed(bundle.index(manifest.index_size)))
            for entry, line in zip(read_index(lines, limits=self.limits.tree), again, strict=True):
                trust.judge_name(entry.path, shared=self.config.shared)
                trust.judge_hook(entry)
                count += 1
                total += entry.size if isinstance(entry, File) else 0
                found |= {entry.path} & {requirements}
                yield line, entry
        except LimitError as error:
            raise Refused(
                Code.LIMIT_EXCEEDED,
                "The bundle is larger than this host takes",
                why=str(error),
                hint="Leave out what the app does not need (.pusherignore), or raise [limits] in agent.toml",
            ) from error
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
        trust.judge_requirements(found, requirements=requirements)


def _batches(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces, for each is written by itself."""
    while batch := b"".join(islice(lines, _BATCH)):
        yield batch


def _malformed(reason: object) -> Refused:
    return Refused(
        Code.BUNDLE_MALFORMED,
        "The bundle is not of the format this agent reads",
        why=str(reason),
        hint="Pack it with `pusher pack`, of the agent's version or a newer one",
    )
