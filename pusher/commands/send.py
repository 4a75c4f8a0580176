"""`pusher send`: pack, sign, ask what is missing, send that, and follow it until it serves.

Invariant: all hosts get the same papers; one that is asked twice sees an equal manifest, so nothing is
deployed twice.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import Any

from pusher.bundle import bundle, pack
from pusher.bundle.bundle import Cargo, Member, SignedManifest
from pusher.bundle.signed_manifest import app_name, manifest_for, sign_tree
from pusher.bundle.source import BundleFile, Folder, locate
from pusher.config import Settings
from pusher.errors import Interrupted, Unreachable
from pusher.fleet.background import Begun
from pusher.fleet.fleet import clients_of
from pusher.fleet.follow import asking, follow
from pusher.fleet.rollout import ASKING_S, Live, Rollout, Tour
from pusher.terminal.show import Screen, amount, duration
from pusher.transport.client import Client
from pusher.wire import Code, Manifest, Problem

_NOT_WORTH_ASKING = 256 * 1024


@dataclass(frozen=True, slots=True)
class _Load:
    """What is sent to every host. `missing` are the digests that a host lacks, for those that were asked."""

    manifest: Manifest
    signed: SignedManifest
    cargo: Cargo
    missing: Mapping[str, frozenset[str]] = field(default_factory=dict)


def send(what: str, settings: Settings, screen: Screen, *, tour: Tour) -> int:
    """Deploy a version, a folder or a bundle's file on the chosen hosts; the exit code.

    Of several hosts, none is changed before all have taken the papers for good. Raises: Problem, Interrupted.
    """
    with clients_of(settings) as clients:
        found = locate(what, source=settings.source)
        rollout = Rollout(clients, screen, tour=tour)
        if isinstance(found, BundleFile):
            load, statuses = _from_file(found, rollout)
        else:
            load, statuses = _from_folder(found, settings, rollout, screen)
        if rollout.several:
            load = replace(load, missing=_missing(load, rollout))
        return rollout.change(partial(_deliver, load=load), before=_live(statuses))


def _from_file(found: BundleFile, rollout: Rollout) -> tuple[_Load, dict[str, dict[str, Any]]]:
    for client in rollout.clients:
        client.open()
    packed = bundle.read(found.path)
    load = _Load(packed.manifest, packed.signed, packed)
    # One host says all there is to say when it is sent to.
    return load, _statuses(packed.manifest.app, rollout) if rollout.several else {}


def _from_folder(
    found: Folder, settings: Settings, rollout: Rollout, screen: Screen
) -> tuple[_Load, dict[str, dict[str, Any]]]:
    app = app_name(settings)
    # The way to a host may take longer than reading the folder.
    reading = Begun(partial(pack.read, found.path))
    screen.passing(f"  reading {found.path} ...")
    statuses = _statuses(app, rollout)
    tree = reading.result()
    screen.dangling(pack.dangling(tree))
    manifest = manifest_for(statuses, tree, app=app, version=found.version)
    screen.passing("  signing ...")
    # There is nothing else to do while ssh-keygen works, and what compresses takes a while to be loaded.
    Begun(partial(import_module, "zstandard"))
    return _Load(manifest, sign_tree(manifest, tree, key=settings.key), tree), statuses


def _statuses(app: str, rollout: Rollout) -> dict[str, dict[str, Any]]:
    """What the hosts say, by what we call them."""
    patience = ASKING_S if rollout.several else None
    return rollout.ask(lambda client: client.status(app, patience_s=patience), doing="asking")


def _missing(load: _Load, rollout: Rollout) -> dict[str, frozenset[str]]:
    """What the hosts lack, by what we call them; asked of all, for it judges the papers too."""
    # Hosts that lack the same share one set: of 100,000 files it is large.
    shared: dict[frozenset[str], frozenset[str]] = {}

    def ask(client: Client) -> frozenset[str]:
        found = client.missing(load.manifest.app, bundle.write(load.signed))
        return shared.setdefault(found, found)

    return rollout.ask(ask, doing="checking")


def _live(statuses: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The release that is live on each host."""
    found = {name: status.get("live") for name, status in statuses.items()}
    return {name: str(live.get("release")) for name, live in found.items() if isinstance(live, Mapping)}


def _deliver(client: Client, screen: Screen, *, load: _Load) -> Live:
    """Send to one host and follow it to its end."""
    began = time.monotonic()
    name, files = f"{load.manifest.app} {load.manifest.version}", load.cargo.files
    total = sum(file.size for file in files)
    missing = load.missing.get(client.host.name)
    if missing is None and total >= _NOT_WORTH_ASKING:
        screen.passing(f"  asking {client.host.name} what it has ...")
        missing = client.missing(load.manifest.app, bundle.write(load.signed))
    travelling = [file.size for file in files if missing is None or file.sha256 in missing]
    there = "" if missing is None else f", of which {amount(len(travelling), sum(travelling))} must travel"
    screen.line(f"sending {name} to {client.host.name}: {amount(len(files), total)}{there}")
    try:
        data = _upload(client, screen, load, missing)
    except Problem as problem:
        if problem.code is not Code.BUNDLE_INCOMPLETE or missing is None:
            raise
        screen.line(f"  {client.host.name} lost some of what it had: sending all of it")
        data = _upload(client, screen, load, None)
    release, previous = str(data.get("release")), str(data.get("previous") or "")
    took = duration((time.monotonic() - began) * 1000)
    screen.line(f"{name} is live on {client.host.name}: release {release}, {took}")
    return Live(load.manifest.app, load.manifest.version, release, previous)


def _upload(client: Client, screen: Screen, load: _Load, missing: Collection[str] | None) -> Mapping[str, Any]:
    total = sum(file.size for file in load.cargo.files if missing is None or file.sha256 in missing)
    contents = _counted(load.cargo.contents(missing), screen, total)
    see = f"It is deployed only if all of it had arrived: see {asking(client.host.name)}"
    try:
        deployment = client.deploy(load.manifest.app, bundle.write(load.signed, contents))
    except KeyboardInterrupt as error:
        raise Interrupted(f"Interrupted while sending to {client.host.name}. {see}") from error
    except Unreachable as error:
        raise Unreachable(error.what, why=error.why, hint=f"{see}. {error.hint}") from error
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
