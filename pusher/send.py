"""`pusher send`: pack, sign, ask what is missing, send that, and follow it until it serves.

Invariant: all hosts get the same papers; one that is asked twice sees an equal manifest, so nothing is
deployed twice.
"""

import hashlib
import shlex
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

from pusher import bundle, pack, sign
from pusher.background import Begun
from pusher.bundle import Cargo, Member, Papers
from pusher.client import Client
from pusher.config import Settings
from pusher.errors import Interrupted, Usage
from pusher.fleet import chosen, each
from pusher.follow import follow
from pusher.show import Screen, amount, duration
from pusher.source import BundleFile, Folder, locate
from pusher.wire import Code, Manifest, Problem, WireError, check_app, parse_timestamp

LIFETIME_MS = 30 * 24 * 3600 * 1000
"""How long a manifest counts after it was made, unless told otherwise."""
_NOT_WORTH_ASKING = 256 * 1024


@dataclass(frozen=True, slots=True)
class _Load:
    """What is sent to every host, but for those that did not say where they stand."""

    manifest: Manifest
    papers: Papers
    cargo: Cargo
    silent: Mapping[str, Problem] = field(default_factory=dict)


def send(what: str, settings: Settings, screen: Screen) -> int:
    """Deploy a version, a folder or a bundle's file on the chosen hosts; the exit code.

    Raises: Problem, Interrupted.
    """
    hosts = chosen(settings.chosen, known=tuple(settings.hosts))
    clients = [Client(host, ssh=settings.ssh) for host in hosts]
    try:
        found = locate(what, source=settings.source)
        if isinstance(found, BundleFile):
            load = _from_file(found, clients)
        else:
            load = _from_folder(found, settings, clients, screen)
        return each(clients, partial(_deliver, load=load), screen)
    finally:
        for client in clients:
            client.close()


def make_manifest(
    tree: pack.Tree, *, app: str, version: str, created: int, expires: int, hosts: Sequence[str] = ()
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


def app_name(settings: Settings) -> str:
    """The app that is sent or packed. Raises: Usage."""
    if not settings.app:
        hint = 'Name it with --app, PUSHER_APP, or app = "..." in pusher.toml'
        raise Usage("The app is not named", hint=hint)
    try:
        return check_app(settings.app)
    except WireError as error:
        raise Usage("This cannot be the name of an app", why=str(error)) from error


def _from_file(found: BundleFile, clients: Sequence[Client]) -> _Load:
    for client in clients:
        client.open()
    packed = bundle.read(found.path)
    return _Load(packed.manifest, packed.papers, packed)


def _from_folder(found: Folder, settings: Settings, clients: Sequence[Client], screen: Screen) -> _Load:
    app = app_name(settings)
    # The way to a host may take longer than reading the folder.
    asked = [Begun(partial(client.status, app)) for client in clients]
    screen.passing(f"  reading {found.path} ...")
    tree = pack.read(found.path)
    screen.dangling(pack.dangling(tree))
    statuses: list[dict[str, Any]] = []
    silent: dict[str, Problem] = {}
    for client, begun in zip(clients, asked, strict=True):
        try:
            statuses.append(begun.result())
        except Problem as problem:
            silent[client.host.name] = problem
            if len(silent) == len(clients):
                raise
    created = max(int(time.time() * 1000), *(_newest(status) + 1 for status in statuses))
    names = [status.get("host") for status in statuses]
    manifest = make_manifest(
        tree,
        app=app,
        version=found.version,
        created=created,
        expires=created + LIFETIME_MS,
        # For these hosts alone: what was signed for one cannot be played to another.
        hosts=sorted({name for name in names if isinstance(name, str)}) if all(names) else (),
    )
    raw = manifest.to_bytes()
    screen.passing("  signing ...")
    # There is nothing else to do while ssh-keygen works, and what compresses takes a while to be loaded.
    Begun(partial(import_module, "zstandard"))
    return _Load(manifest, Papers(raw, sign.sign(raw, key=settings.key), tree.index), tree, silent)


def _newest(status: Mapping[str, object]) -> int:
    """The newest `created` a host has accepted; 0 if none."""
    newest = status.get("newest_created")
    try:
        return parse_timestamp(newest) if isinstance(newest, str) else 0
    except WireError:
        return 0


def _deliver(client: Client, screen: Screen, *, load: _Load) -> str:
    """Send to one host and follow it to its end; the result in a line."""
    if problem := load.silent.get(client.host.name):
        raise problem
    began = time.monotonic()
    name, files = f"{load.manifest.app} {load.manifest.version}", load.cargo.files
    total = sum(file.size for file in files)
    missing = None
    if total >= _NOT_WORTH_ASKING:
        screen.passing(f"  asking {client.host.name} what it has ...")
        missing = client.missing(load.manifest.app, bundle.write(load.papers))
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
    result = f"{name} is live on {client.host.name}: release {data.get('release')}"
    took = duration((time.monotonic() - began) * 1000)
    screen.line(f"{result}, {took}")
    return f"{name} is live, {took}"


def _upload(client: Client, screen: Screen, load: _Load, missing: Collection[str] | None) -> Mapping[str, Any]:
    total = sum(file.size for file in load.cargo.files if missing is None or file.sha256 in missing)
    contents = _counted(load.cargo.contents(missing), screen, total)
    try:
        deployment = client.deploy(load.manifest.app, bundle.write(load.papers, contents))
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"Interrupted while sending to {client.host.name}. It is deployed only if all of it had arrived: "
            f"see pusher status --host {shlex.quote(client.host.name)}"
        ) from error
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
