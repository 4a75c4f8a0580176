"""The way of a bundle from bytes to a staged tree, with everything but the signature and the journal."""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from agent.core.config.app import AppConfig
from agent.core.config.host import BundleLimits
from agent.core.run import RunRules
from agent.deploy.admission import Admission, VerifiedManifest
from agent.host.bundle.signatures import TrustFiles
from agent.host.bundle.tar import TarBundle
from agent.host.dependencies.pythons import Pythons
from agent.host.releases.unpack import Unpacked, unpack
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from pusher.wire import Link, Manifest, WireError
from pusher.wire.problems import malformed_bundle
from tests.hostile.archives import Tree, content_of, entries


class Clock:
    """A clock that stands still."""

    def now(self) -> int:
        return 1_700_000_100_000

    def elapsed(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


class Receiver:
    """Receives bundles into `app/.staging/<name>` beneath `root`."""

    def __init__(self, root: Path, *, shared: Sequence[str] = (), disk: Disk | None = None) -> None:
        self.staging = root / "app" / ".staging"
        self.staging.parent.mkdir(exist_ok=True)
        self.disk = disk or Disk()
        config = AppConfig(path=str(root / "app"), user="demo", shared_paths=list(shared))
        self.admission = Admission(
            app="demo",
            config=config,
            rules=RunRules("demo", config, "demo.toml"),
            host="here",
            limits=BundleLimits(),
            trust=TrustFiles(root / "allowed_signers"),
            pythons=Pythons(),
            clock=Clock(),
            disk=self.disk,
            journal=Journal(root / "journal.sqlite"),
        )

    def receive(
        self, read: Callable[[int], bytes], name: str = "one", *, releases: Sequence[Path] = ()
    ) -> tuple[Path, Unpacked]:
        """The staged tree. As in a deployment that is undone, it is removed if anything fails."""
        into = self.staging / name
        try:
            bundle = TarBundle(read)
            raw, signature = bundle.signed_manifest()
            try:
                manifest = Manifest.from_bytes(raw)
            except WireError as error:
                raise malformed_bundle(str(error)) from error
            verified = SimpleNamespace(manifest=manifest, raw=raw, signature=signature, signer="")
            self.admission.store(cast("VerifiedManifest", verified), bundle, into)
            done = unpack(
                bundle,
                into=into,
                version=manifest.version,
                releases=lambda: releases,
                disk=self.disk,
                limits=self.admission.limits.tree,
            )
        except BaseException:
            Disk().remove(into, trash=self.staging / "trash", op="undo")
            raise
        return into, done


def everything(root: Path) -> dict[str, object]:
    """Every name beneath a folder, with what it is."""
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            state = path.lstat()
            what: object = stat.S_IFMT(state.st_mode)
            if stat.S_ISLNK(state.st_mode):
                what = os.readlink(path)
            elif stat.S_ISREG(state.st_mode):
                what = (path.read_bytes(), stat.S_IMODE(state.st_mode))
            found[str(path.relative_to(root))] = what
    return found


def expected(tree: Tree, *, manifest: bytes, index: bytes, version: str = "v1") -> dict[str, object]:
    """What `everything` must find in a staged tree."""
    found: dict[str, object] = {
        ".pusher/manifest.json": (manifest, 0o644),
        ".pusher/manifest.json.sig": (b"signature", 0o644),
        ".pusher/index.jsonl": (index, 0o644),
        "REVISION": (f"{version}\n".encode(), 0o644),
        ".complete": (b"", 0o644),
    }
    for one in entries(tree):
        found[one.path] = one.target if isinstance(one, Link) else (content_of(tree, one.path), one.mode)
    for path in list(found):
        for above in list(Path(path).parents)[:-1]:
            found[str(above)] = stat.S_IFDIR
    return found
