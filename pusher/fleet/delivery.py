"""Delivering a version to one host: what it lacks is sent, and its deployment is followed until it serves.

Invariant: what a host lacks may be guessed, never what it has. A wrong guess costs another request, no more.
"""

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pusher.bundle.archive import Member, Payload, write_bundle
from pusher.bundle.sent import Sent
from pusher.bundle.signed_manifest import SignedManifest
from pusher.bundle.tree import Tree
from pusher.dependencies.cache import cache_folder
from pusher.errors import Interrupted, Unreachable
from pusher.fleet.concerns import concerns
from pusher.fleet.follow import check_live, follow, status_command
from pusher.fleet.served import served_at
from pusher.terminal.screen import Screen
from pusher.terminal.text import Tone, amount, duration
from pusher.transport.client import Client
from pusher.wire import Code, Manifest, Problem

# Sending less than that is faster than asking what is missing.
_NOT_WORTH_ASKING = 256 * 1024
_LAST_WORD_S = 5.0


@dataclass(frozen=True, slots=True)
class Shipment:
    """What is sent to every host. `missing` are the digests that a host lacks, for hosts that were asked; `likely`
    are those that it lacks if its live release is what was sent from here."""

    manifest: Manifest
    signed: SignedManifest
    payload: Payload
    missing: Mapping[str, frozenset[str]] = field(default_factory=dict)
    likely: Mapping[str, frozenset[str]] = field(default_factory=dict)
    dependencies: Mapping[str, str] = field(default_factory=dict)
    """What is known of its dependencies on a host, in words, by the host's name."""


def deliver(client: Client, screen: Screen, shipment: Shipment) -> Mapping[str, Any]:
    """Send to one host, and follow the deployment to its end: the data of its last event. Raises: Problem."""
    began, host = time.monotonic(), client.host.name
    name, files = f"{shipment.manifest.app} {shipment.manifest.version}", shipment.payload.files
    missing, guessed = _missing(client, screen, shipment)
    screen.line(f"sending {name} to {host}: {_described(shipment, host, missing)}")
    data = _send_missing(client, screen, shipment, missing, guessed=guessed)
    digest = hashlib.sha256(shipment.signed.manifest).hexdigest()
    check_live(data, digest, what=name, host=host)
    _sent_before().remember(digest, files)
    took = duration((time.monotonic() - began) * 1000)
    screen.line(f"{name} is live on {host}: release {data.get('release')}, {took}", tone=Tone.GOOD)
    with suppress(Problem):  # what counts is that it is live
        status = client.status(shipment.manifest.app, patience_s=_LAST_WORD_S)
        if address := served_at(status, client.host, ssh=client.ssh):
            screen.line(f"  it answers at {address}")
        for line in concerns(status):
            screen.line(f"  {line}", tone=Tone.WARNING)
    return data


def likely_missing(tree: Tree, statuses: Mapping[str, Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """The digests that a host probably lacks, where they are so few that asking for them would be more work."""
    sent, files, found = _sent_before(), tree.files, dict[str, frozenset[str]]()
    for name, status in statuses.items():
        live = status.get("live")
        lacking = sent.lacking(live.get("manifest"), files) if isinstance(live, Mapping) else None
        if lacking is not None and sum(file.size for file in files if file.sha256 in lacking) < _NOT_WORTH_ASKING:
            found[name] = lacking
    return found


def ask_missing(client: Client, shipment: Shipment) -> frozenset[str]:
    """The digests that a host lacks. It verifies the manifest as well. Raises: Problem."""
    manifest = shipment.manifest
    return client.missing(manifest.app, write_bundle(shipment.signed), files=manifest.files)


def _missing(client: Client, screen: Screen, shipment: Shipment) -> tuple[frozenset[str] | None, bool]:
    """The digests that a host lacks (None: everything is sent), and whether that is a guess."""
    host = client.host.name
    if host in shipment.missing:
        return shipment.missing[host], False
    if sum(file.size for file in shipment.payload.files) < _NOT_WORTH_ASKING:
        return None, False
    if host in shipment.likely:
        return shipment.likely[host], True
    return _ask(client, screen, shipment), False


def _described(shipment: Shipment, host: str, missing: frozenset[str] | None) -> str:
    """What is sent to a host, for people."""
    files = shipment.payload.files
    travelling = [file.size for file in files if missing is None or file.sha256 in missing]
    needed = "" if missing is None else f", of which {amount(len(travelling), sum(travelling))} must travel"
    known = shipment.dependencies.get(host, "")
    return f"{amount(len(files), sum(file.size for file in files))}{needed}{'; ' if known else ''}{known}"


def _ask(client: Client, screen: Screen, shipment: Shipment) -> frozenset[str]:
    screen.passing(f"  asking {client.host.name} what it has ...")
    return ask_missing(client, shipment)


def _send_missing(
    client: Client, screen: Screen, shipment: Shipment, missing: frozenset[str] | None, *, guessed: bool
) -> Mapping[str, Any]:
    """Send what is missing, and more if the host lacks more than that; as `_upload`."""
    try:
        return _upload(client, screen, shipment, missing)
    except Problem as problem:
        if problem.code is not Code.BUNDLE_INCOMPLETE or missing is None:
            raise
    if guessed:
        return _send_missing(client, screen, shipment, _ask(client, screen, shipment), guessed=False)
    screen.line(f"  {client.host.name} lacks more than it said: sending everything")
    return _upload(client, screen, shipment, None)


def _upload(
    client: Client, screen: Screen, shipment: Shipment, missing: Collection[str] | None
) -> Mapping[str, Any]:
    total = sum(file.size for file in shipment.payload.files if missing is None or file.sha256 in missing)
    contents = _counted(shipment.payload.contents(missing), screen, total)
    hint = f"It is deployed only if it arrived completely. To see it: {status_command(client.host.name)}"
    try:
        deployment = client.deploy(shipment.manifest.app, write_bundle(shipment.signed, contents))
    except KeyboardInterrupt as error:
        raise Interrupted(f"Interrupted while sending to {client.host.name}. {hint}") from error
    except Unreachable as error:
        raise Unreachable(error.what, why=error.why, hint=f"{hint}. {error.hint}") from error
    return follow(client, deployment, screen)


def _counted(contents: Iterator[Member], screen: Screen, total: int) -> Iterator[Member]:
    done = 0

    def pieces(content: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal done
        for piece in content:
            yield piece
            done += len(piece)
            screen.sent(done, total)

    for file, content in contents:
        yield file, pieces(content)


def _sent_before() -> Sent:
    return Sent(cache_folder() / "sent")
