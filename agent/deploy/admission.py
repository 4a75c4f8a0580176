"""What an app lets in: from bytes of unknown origin to a verified manifest, and to a durable one.

Invariant: nothing is believed, stored or counted before the signature holds; what is refused here has changed
nothing. These are the steps `receive` and `verify`.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path

from agent.core import trust
from agent.core.config.app import AppConfig
from agent.core.config.host import BundleLimits
from agent.core.pythons import admits, admitted, unadmitted
from agent.core.requirements.pylock import PYLOCK
from agent.core.run import RunRules
from agent.host.bundle.signatures import TrustFiles, verify_all
from agent.host.dependencies.pythons import Pythons
from agent.host.ports import Bundle, Clock
from agent.host.releases.unpack import check_room, write_metadata
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Code, Directory, Entry, File, LimitError, Manifest, Refused, WireError, read_index

_BATCH = 256


@dataclass(frozen=True, slots=True)
class VerifiedManifest:
    """A manifest whose signatures hold. `digest` is the SHA-256 of its bytes; the journal knows it by that.

    `signature` has all signatures, `signer` the names of those that count. The times are what the two
    steps took, in milliseconds.
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
    rules: RunRules
    trust: TrustFiles
    pythons: Pythons
    disk: Disk
    journal: Journal
    clock: Clock

    async def receive(self, bundle: Bundle) -> VerifiedManifest:
        """Read the manifest of a bundle, and verify its signatures.

        Raises: Refused, if it is malformed, or its signers are not trusted or too few.
        """
        began = self.clock.elapsed()
        raw, signature = await asyncio.to_thread(bundle.signed_manifest)
        received = self.clock.elapsed()
        signers = await asyncio.to_thread(verify_all, raw, signature, files=self.trust, rules=self.config.signing)
        try:
            manifest = Manifest.from_bytes(raw)
        except WireError as error:
            raise _malformed(error) from error
        return VerifiedManifest(
            manifest,
            raw,
            signature,
            digest=hashlib.sha256(raw).hexdigest(),
            signer=", ".join(one.principal for one in signers),
            receive_ms=round((received - began) * 1000),
            verify_ms=round((self.clock.elapsed() - received) * 1000),
        )

    async def check(self, verified: VerifiedManifest, *, retry: bool) -> None:
        """Refuse a manifest for another app or host, one that is too large, or one that is not fresh; or one for
        a Python that this host does not have.

        With `retry` the newest manifest that was accepted is fresh once more. It must also say nothing of how it
        runs that does not fit this host. Raises: Refused, as `agent.core.trust.check` and `RunRules`; Failed.
        """
        trust.check(
            verified.manifest,
            app=self.app,
            host=self.host,
            now=self.clock.now(),
            newest_accepted=await self.journal.newest_accepted(self.app),
            limits=self.limits,
            retry=retry,
        )
        run, requires = self.rules.decide(verified.manifest.run), verified.manifest.requires_python
        python = await self.pythons.choose(
            self.config.dependencies.python, named=run.python, requires=admitted(requires)
        )
        if not admits(requires, python.version):
            raise unadmitted(requires, python.version)

    def store(self, verified: VerifiedManifest, bundle: Bundle, into: Path) -> None:
        """Begin the tree `into` with the verified manifest and the index of the bundle, durably. Blocking.

        Raises: Refused, Failed. The caller then calls `discard`.
        """
        self.disk.make_folders(into.parent, op="metadata.staging")
        check_room(into.parent, size=verified.manifest.unpacked_size, files=verified.manifest.files)
        write_metadata(
            into,
            manifest=verified.raw,
            signature=verified.signature,
            signer=verified.signer,
            index=_batches(line for line, _ in self._checked(verified, bundle)),
            disk=self.disk,
        )

    def discard(self, tree: Path) -> None:
        """Remove a tree that `store` began, or only a part of it. Blocking. Raises: Failed."""
        self.disk.discard(tree, op="store.discard")

    def entries(self, verified: VerifiedManifest, bundle: Bundle) -> Iterator[Entry]:
        """The entries of the bundle's index, each checked when it is read, and all of them at the end. Blocking.

        Raises: Refused, at a line that is wrong, or at the end if the digest is not the one in the manifest.
        """
        return (entry for _, entry in self._checked(verified, bundle))

    def _checked(self, verified: VerifiedManifest, bundle: Bundle) -> Iterator[tuple[bytes, Entry]]:
        """Each line with its entry, as `entries`."""
        manifest, digest = verified.manifest, hashlib.sha256()

        def hashed(lines: Iterable[bytes]) -> Iterator[bytes]:
            for line in lines:
                digest.update(line)
                yield line

        count = total = folders = 0
        requirements = self.config.dependencies.requirements
        needed = {requirements, PYLOCK}
        found: set[str] = set()
        clashes = trust.Clashes(shared=self.config.shared)
        try:
            bundle.verified(manifest)
            lines, same = tee(hashed(bundle.index(manifest.index_size)))
            for entry, line in zip(read_index(lines, limits=self.limits.tree), same, strict=True):
                clashes.note(entry)
                trust.check_hook(entry)
                count += 1
                folders += isinstance(entry, Directory)
                total += entry.size if isinstance(entry, File) else 0
                found |= {entry.path} & needed
                yield line, entry
        except LimitError as error:
            raise Refused(
                Code.LIMIT_EXCEEDED,
                "The bundle is larger than this host allows",
                why=str(error),
                hint="Leave out what the app does not need (.pusherignore), or raise [limits] in agent.toml",
            ) from error
        except WireError as error:
            raise _malformed(error) from error
        clashes.check()
        if digest.hexdigest() != manifest.index_sha256:
            raise Refused(
                Code.CONTENT_MISMATCH,
                "The bundle's index is not the one that was signed",
                hint="Pack and sign it again",
            )
        if (count, folders, total) != (manifest.files, manifest.folders, manifest.unpacked_size):
            empty = f", {manifest.folders} of them empty folders" if manifest.folders or folders else ""
            raise _malformed(
                f"the manifest counts {manifest.files} files{empty}, of {manifest.unpacked_size} bytes"
            )
        trust.check_requirements(found, requirements=requirements)


def _batches(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces: each piece costs a write."""
    while batch := b"".join(islice(lines, _BATCH)):
        yield batch


def _malformed(reason: object) -> Refused:
    return Refused(
        Code.BUNDLE_MALFORMED,
        "The bundle does not have the format that this agent reads",
        why=str(reason),
        hint="Pack it with `pusher pack` of this agent's version. If that is older than the `pusher` which packed "
        "it: upgrade the agent",
    )
