"""A publisher for tests: the product's own parts, with keys of the host under test."""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.host.clock import SystemClock
from pusher.bundle.signed_manifest import SignedManifest, sign_manifest
from pusher.bundle.tree import Tree, read_tree
from pusher.repository.channel import Channels
from pusher.repository.folder import Folder
from pusher.repository.releases import put_release, read_releases
from pusher.repository.store import Repository
from pusher.wire import File, Manifest
from pusher.wire.channel import Channel, Rollout, Target
from tests.host import APP, MONTH_MS, Host

CHANNEL = "stable"
POLL_S = 5_000


class Publisher:
    """Publishes into a folder, with a key for releases and for the channel."""

    def __init__(self, folder: Path, *, key: Path) -> None:
        self.key = key
        self.folder = folder
        self.use(Folder(folder))
        self._created = 0

    def use(self, repository: Repository) -> None:
        """Publish into this repository."""
        self.repository = repository
        self.channels = Channels(repository, memory=self.folder.parent / "memory")

    def subscribe(self, host: Host, *repository: str, **settings: Any) -> None:
        """Let a host follow the channel, from this folder or from these addresses."""
        where = list(repository) or [self.folder.as_uri()]
        members = {"repository": where, "channel": CHANNEL, "poll_s": POLL_S} | settings
        host.add_app(APP, **{f"subscribe__{key}": value for key, value in members.items()})
        self.trust(host.layout.allowed_signers)

    def trust(self, signers: Path) -> None:
        """Let a host accept what this publisher signs."""
        public = self.key.with_suffix(".pub").read_text().strip()
        with signers.open("a") as file:
            file.write(f'tester namespaces="pusher-release" {public}\n')
            file.write(f'tester namespaces="pusher-channel" {public}\n')

    def signed(
        self, files: Mapping[str, str], version: str, **members: Any
    ) -> tuple[Manifest, SignedManifest, Tree]:
        """A version, signed; `members` replace those of its manifest."""
        source = self.folder.parent / "src" / f"{version}-{time.monotonic_ns()}"
        for name, text in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text)
        tree = read_tree(source)
        self._created = max(int(time.time() * 1000), self._created + 1)
        facts: dict[str, Any] = {
            "app": APP,
            "version": version,
            "created": self._created,
            "expires": self._created + 12 * MONTH_MS,
            "index_sha256": hashlib.sha256(tree.index).hexdigest(),
            "index_size": len(tree.index),
            "files": len(tree.entries),
            "unpacked_size": sum(entry.size for entry in tree.entries if isinstance(entry, File)),
        }
        manifest = Manifest(**(facts | members))
        return manifest, sign_manifest(manifest, tree, key=str(self.key)), tree

    def put(self, files: Mapping[str, str], version: str, **members: Any) -> Target:
        """Store a release; no channel names it yet. Blocking."""
        manifest, signed, tree = self.signed(files, version, **members)
        known = read_releases(self.repository, APP)
        return put_release(self.repository, known, manifest, signed, tree).target

    def name(self, target: Target, *, days: int = 7, **members: Any) -> Channel:
        """Let the channel name a release; other members are those of the document. Blocking."""
        before = self.channels.read(APP, CHANNEL)
        facts: dict[str, Any] = {"app": APP, "channel": CHANNEL, "created": 0, "expires": 0, "rollout": Rollout()}
        document = Channel(**(facts | {"target": target} | members))
        return self.channels.put(document, key=str(self.key), before=before, days=days)

    async def publish(self, files: Mapping[str, str], version: str, **members: Any) -> Target:
        """Store a release and let the channel name it."""
        target = await asyncio.to_thread(self.put, files, version)
        await asyncio.to_thread(self.name, target, **members)
        return target


class EagerClock(SystemClock):
    """A clock on which the time between two polls of POLL_S is short."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(0.05 if POLL_S / 2 <= seconds <= POLL_S * 1.5 else seconds)
