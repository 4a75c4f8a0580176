"""The releases of an app in a repository, and the bundles that bring each: in full, and without what hosts have.

Invariant: a bundle is named by its digest, and so is the release in it. The list of releases is not signed: it
only says where to look, and what is found there is compared with the digest. Agents never read it.
"""

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from pusher.bundle.archive import Head, Payload, read_head, write_bundle
from pusher.bundle.signed_manifest import SignedManifest
from pusher.repository.store import Found, Repository
from pusher.wire import Code, File, Manifest, Refused, WireError, canonical, format_timestamp, parse_timestamp
from pusher.wire.channel import BundleObject, ChannelRelease, Target, object_name
from pusher.wire.text import check_sha256, check_version, parse_object, take, take_count

DELTAS = 3
"""For how many earlier releases there is a bundle without what they have."""
LIST_MOST = 500
_LIST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Listed:
    """A release in the list of an app, and its full bundle."""

    release: ChannelRelease
    bundle: BundleObject


@dataclass(frozen=True, slots=True)
class ReleaseList:
    """The releases of an app, newest first. `found` is the object as it was read."""

    app: str
    releases: tuple[Listed, ...]
    found: Found | None


class Stored(NamedTuple):
    """A release whose bundles are in the repository. `is_new`: none of them was there before."""

    target: Target
    is_new: bool


def list_name(app: str) -> str:
    """Where the list of an app's releases lies."""
    return f"releases/{app}.json"


def read_releases(repository: Repository, app: str) -> ReleaseList:
    """The list of an app's releases; empty if there is none. Raises: Refused, if it cannot be read."""
    found = repository.read(list_name(app), most=_LIST_BYTES)
    if found is None:
        return ReleaseList(app, (), None)
    try:
        members = parse_object(found.content, "the list of releases")
        releases = tuple(_listed(one) for one in take(members, "releases", list))
    except WireError as error:
        hint = "Remove it: the next publish makes a new one, and sends full bundles"
        raise Refused(
            Code.CHANNEL_MALFORMED, f"{list_name(app)} cannot be used", why=str(error), hint=hint
        ) from error
    return ReleaseList(app, releases, found)


def put_releases(repository: Repository, known: ReleaseList, releases: Sequence[Listed]) -> None:
    """Replace the list of an app's releases. Raises: Refused(channel_changed)."""
    newest = sorted(releases, key=lambda one: one.release.created, reverse=True)[:LIST_MOST]
    content = canonical({"releases": [_members(one) for one in newest]}) + b"\n"
    if known.found is None or content != known.found.content:
        repository.replace(list_name(known.app), content, tag=known.found.tag if known.found else None)


def put_release(
    repository: Repository, known: ReleaseList, manifest: Manifest, signed: SignedManifest, payload: Payload
) -> Stored:
    """Store a release, and let the list of releases have it. As `put_bundles`."""
    stored = put_bundles(repository, known, manifest, signed, payload)
    release, full = stored.target.release, stored.target.bundles[0]
    others = [one for one in known.releases if one.release.manifest != release.manifest]
    put_releases(repository, known, [Listed(release, full), *others])
    return stored


def put_bundles(
    repository: Repository, known: ReleaseList, manifest: Manifest, signed: SignedManifest, payload: Payload
) -> Stored:
    """Store the bundles of a release: the full one, and one for hosts with each of the newest releases before it.

    Those that are there already are not written again.
    """
    release = ChannelRelease(
        manifest=hashlib.sha256(signed.manifest).hexdigest(), version=manifest.version, created=manifest.created
    )
    put = [_put(repository, signed, payload, base="")]
    for one in [it for it in known.releases if it.release.manifest != release.manifest][:DELTAS]:
        there = _content(repository, one)
        lacking = frozenset(file.sha256 for file in payload.files if file.sha256 not in there)
        if there and len(lacking) < len({file.sha256 for file in payload.files}):
            put.append(_put(repository, signed, payload, base=one.release.manifest, wanted=lacking))
    return Stored(Target(release, tuple(bundle for bundle, _ in put)), all(is_new for _, is_new in put))


def find_release(repository: Repository, listed: Listed) -> Head:
    """The signed manifest at the head of a listed release's bundle. Raises: Refused, if it is another one."""
    with repository.stream(object_name(listed.bundle.sha256)) as pieces:
        head = read_head(pieces)
    if hashlib.sha256(head.signed.manifest).hexdigest() != listed.release.manifest:
        raise Refused(
            Code.CONTENT_MISMATCH,
            f"The bundle of {listed.release.version} has another release in it",
            hint="Publish that version again",
        )
    return head


def _content(repository: Repository, listed: Listed) -> Collection[str]:
    """The digests of the files that a host with this release has; none if its bundle is gone."""
    try:
        head = find_release(repository, listed)
    except Refused:
        return frozenset()
    return frozenset(entry.sha256 for entry in head.entries if isinstance(entry, File))


def _put(
    repository: Repository,
    signed: SignedManifest,
    payload: Payload,
    *,
    base: str,
    wanted: Collection[str] | None = None,
) -> tuple[BundleObject, bool]:
    """A bundle, and whether it was not there before."""
    with _written(write_bundle(signed, payload.contents(wanted))) as (file, made):
        is_new = repository.put(object_name(made.sha256), file)
        return replace(made, base=base), is_new


@contextmanager
def _written(pieces: Iterator[bytes]) -> Iterator[tuple[Path, BundleObject]]:
    """A temporary file with a bundle, and what is known of it."""
    digest, size = hashlib.sha256(), 0
    with tempfile.TemporaryDirectory(prefix="pusher-publish-") as folder:
        file = Path(folder, "bundle")
        with file.open("xb") as out:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                out.write(piece)
        yield file, BundleObject("", digest.hexdigest(), size)


def _members(one: Listed) -> dict[str, Any]:
    return {
        "manifest": one.release.manifest,
        "version": one.release.version,
        "created": format_timestamp(one.release.created),
        "bundle": {"sha256": one.bundle.sha256, "size": one.bundle.size},
    }


def _listed(one: object) -> Listed:
    if not isinstance(one, dict):
        raise WireError(f"{json.dumps(one)[:80]} is no release")
    bundle = take(one, "bundle", dict)
    return Listed(
        ChannelRelease(
            manifest=check_sha256(take(one, "manifest", str)),
            version=check_version(take(one, "version", str)),
            created=parse_timestamp(take(one, "created", str)),
        ),
        BundleObject("", check_sha256(take(bundle, "sha256", str)), take_count(bundle, "size")),
    )
