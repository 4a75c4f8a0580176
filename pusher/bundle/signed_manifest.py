"""The signed manifest: manifest, signature and index, as they travel before the files.

Invariant: the signature covers exactly these bytes of the manifest, and the manifest has the digest of the index.
"""

from dataclasses import dataclass
from pathlib import Path

from pusher.bundle.sign import sign
from pusher.bundle.tree import Tree
from pusher.wire import DROP_INDEX, DROP_MANIFEST, DROP_SIGNATURE, Manifest


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """The first three members of a bundle, byte for byte."""

    manifest: bytes
    signature: bytes
    index: bytes


def sign_manifest(manifest: Manifest, tree: Tree, *, key: str) -> SignedManifest:
    """The signed manifest of a tree. Raises: Usage, Failed, as `pusher.bundle.sign.sign`."""
    raw = manifest.to_bytes()
    return SignedManifest(raw, sign(raw, key=key), tree.index)


def write_beside(signed: SignedManifest, folder: Path) -> list[Path]:
    """Write the three files into `folder`, under the names that they have beside a dropped folder; their paths.

    The manifest is the last. Raises: OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = {DROP_INDEX: signed.index, DROP_SIGNATURE: signed.signature, DROP_MANIFEST: signed.manifest}
    for name, content in named.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in named]
