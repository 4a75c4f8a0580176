"""What is signed about a tree: which app and version it is, for which hosts, and how long it counts.

Invariant: what was signed for the hosts of one command can be played to no other, and no host that answered
finds it older than what it has.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pusher.bundle import sign
from pusher.bundle.bundle import SignedManifest
from pusher.bundle.pack import Tree
from pusher.config import Settings
from pusher.errors import Usage
from pusher.wire import DROP_INDEX, DROP_MANIFEST, DROP_SIGNATURE, Manifest, WireError, check_app, parse_timestamp

_LIFETIME_MS = 30 * 24 * 3600 * 1000
"""How long a manifest counts after it was made for the hosts that it is sent to."""


def app_name(settings: Settings) -> str:
    """The app that is sent or packed. Raises: Usage."""
    if not settings.app:
        hint = 'Name it with --app, PUSHER_APP, or app = "..." in pusher.toml'
        raise Usage("The app is not named", hint=hint)
    try:
        return check_app(settings.app)
    except WireError as error:
        raise Usage("This cannot be the name of an app", why=str(error)) from error


def make_manifest(
    tree: Tree, *, app: str, version: str, created: int, expires: int, hosts: Sequence[str] = ()
) -> Manifest:
    """The manifest of a tree; `created` and `expires` in milliseconds since 1970 (UTC)."""
    return Manifest(
        app=app,
        version=version,
        created=created,
        expires=expires,
        index_sha256=hashlib.sha256(tree.index).hexdigest(),
        index_size=len(tree.index),
        files=len(tree.entries),
        unpacked_size=sum(file.size for file in tree.files),
        hosts=tuple(hosts),
    )


def manifest_for(
    statuses: Mapping[str, Mapping[str, Any]], tree: Tree, *, app: str, version: str, all_answered: bool = True
) -> Manifest:
    """The manifest of a tree for the hosts that said this; for any host, if not all have answered."""
    created = max([int(time.time() * 1000), *(_newest(status) + 1 for status in statuses.values())])
    names = [status.get("host") for status in statuses.values()]
    return make_manifest(
        tree,
        app=app,
        version=version,
        created=created,
        expires=created + _LIFETIME_MS,
        # For these hosts alone: what was signed for one cannot be played to another.
        hosts=sorted({name for name in names if isinstance(name, str)}) if all_answered and all(names) else (),
    )


def sign_tree(manifest: Manifest, tree: Tree, *, key: str) -> SignedManifest:
    """The papers of a tree. Raises: Problem, as `pusher.bundle.sign.sign`."""
    raw = manifest.to_bytes()
    return SignedManifest(raw, sign.sign(raw, key=key), tree.index)


def write_beside(signed: SignedManifest, folder: Path) -> list[Path]:
    """Write the papers as they lie beside a dropped folder; their paths. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {DROP_INDEX: signed.index, DROP_SIGNATURE: signed.signature, DROP_MANIFEST: signed.manifest}
    for name, content in named.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in named]


def _newest(status: Mapping[str, object]) -> int:
    """The newest `created` a host has accepted; 0 if none."""
    newest = status.get("newest_created")
    try:
        return parse_timestamp(newest) if isinstance(newest, str) else 0
    except WireError:
        return 0
