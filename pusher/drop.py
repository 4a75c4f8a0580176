"""`pusher drop`: pack, sign, rsync into the host's drop directory, and follow what becomes of it.

Invariant: what lands is judged by its content, so it may come in any order and in any number of attempts. The
agent need not be there: what has landed is deployed when it is.
"""

import hashlib
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pusher import bundle, pack, rsync, sign
from pusher.background import Begun
from pusher.client import Client
from pusher.config import Settings
from pusher.errors import Interrupted, Unreachable
from pusher.fleet import chosen, each
from pusher.follow import follow
from pusher.send import LIFETIME_MS, app_name, make_manifest
from pusher.show import Screen, amount, bytes_, duration
from pusher.source import BundleFile, Folder, locate
from pusher.wire import (
    DROP_FOLDER,
    DROP_INDEX,
    DROP_MANIFEST,
    DROP_ROOT,
    DROP_SIGNATURE,
    Code,
    Failed,
    Manifest,
    Problem,
    Refused,
    WireError,
    parse_timestamp,
)

_BUNDLE_END = ".tar.zst"


@dataclass(frozen=True, slots=True)
class _Load:
    """What is dropped on every host: files beside each other and, if it goes as a folder, that folder."""

    manifest: Manifest
    digest: str
    name: str
    files: Sequence[Path]
    folder: Path | None = None
    hidden: Path | None = None


def drop(what: str, settings: Settings, screen: Screen, *, as_bundle: bool) -> int:
    """Drop a version, a folder or a bundle's file on the chosen hosts, and follow it; the exit code.

    Raises: Problem, Interrupted.
    """
    hosts = chosen(settings.chosen, known=tuple(settings.hosts))
    clients = [Client(host, ssh=settings.ssh) for host in hosts]
    try:
        found = locate(what, source=settings.source)
        with tempfile.TemporaryDirectory(prefix="pusher-drop-") as aside:
            if isinstance(found, BundleFile):
                packed = bundle.read(found.path)
                statuses = _statuses(clients, packed.manifest.app)
                load = _of_file(found.path, packed.manifest, packed.papers.manifest)
            else:
                app = app_name(settings)
                statuses = _statuses(clients, app)
                load = _of_folder(found, app, settings, statuses, Path(aside), as_bundle=as_bundle)
            deliver = partial(_deliver, load=load, statuses=statuses, ssh=settings.ssh, alone=len(clients) == 1)
            return each(clients, deliver, screen)
    finally:
        for client in clients:
            client.close()


def write_papers(papers: bundle.Papers, folder: Path) -> list[Path]:
    """Write the papers as they lie beside a dropped folder; their paths. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {DROP_INDEX: papers.index, DROP_SIGNATURE: papers.signature, DROP_MANIFEST: papers.manifest}
    for name, content in named.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in named]


def _statuses(clients: Sequence[Client], app: str) -> dict[str, Mapping[str, Any]]:
    """What the agents say, by the hosts' names; a host whose agent does not answer has none."""
    asked = [Begun(partial(client.status, app)) for client in clients]
    statuses: dict[str, Mapping[str, Any]] = {}
    for client, begun in zip(clients, asked, strict=True):
        try:
            statuses[client.host.name] = begun.result()
        except Unreachable:
            continue
    return statuses


def _of_file(path: Path, manifest: Manifest, raw: bytes) -> _Load:
    return _Load(manifest, hashlib.sha256(raw).hexdigest(), path.name, [path])


def _of_folder(
    found: Folder,
    app: str,
    settings: Settings,
    statuses: Mapping[str, Mapping[str, Any]],
    aside: Path,
    *,
    as_bundle: bool,
) -> _Load:
    tree = pack.read(found.path)
    created = max(int(time.time() * 1000), *(_newest(status) + 1 for status in statuses.values()), 0)
    names = [str(status.get("host") or "") for status in statuses.values()]
    everybody = len(names) == len(settings.chosen) and all(names)
    manifest = make_manifest(
        tree,
        app=app,
        version=found.version,
        created=created,
        expires=created + LIFETIME_MS,
        hosts=sorted(set(names)) if everybody else (),
    )
    raw = manifest.to_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    papers = bundle.Papers(raw, sign.sign(raw, key=settings.key), tree.index)
    if as_bundle:
        file = aside / f"{app}-{found.version}{_BUNDLE_END}"
        with file.open("xb") as out:
            out.writelines(bundle.write(papers, tree.contents()))
        return _Load(manifest, digest, file.name, [file])
    hidden = aside / "hidden"
    hidden.write_bytes(b"".join(rsync.hidden(tree.folder, [entry.path for entry in tree.entries])))
    beside = write_papers(papers, aside / "papers")
    return _Load(manifest, digest, DROP_FOLDER, beside, tree.folder, hidden)


def _newest(status: Mapping[str, Any]) -> int:
    try:
        return parse_timestamp(str(status.get("newest_created")))
    except WireError:
        return 0


def _deliver(
    client: Client,
    screen: Screen,
    *,
    load: _Load,
    statuses: Mapping[str, Mapping[str, Any]],
    ssh: str,
    alone: bool,
) -> str:
    """Drop on one host, and follow it to its end; the result in a line."""
    began, host, manifest = time.monotonic(), client.host, load.manifest
    status = statuses.get(host.name, {})
    place = str(status.get("drop") or f"{DROP_ROOT}/{manifest.app}")
    target, shell = rsync.target(host, place), rsync.remote_shell(host, ssh=ssh, may_ask=alone)
    what = f"{manifest.app} {manifest.version}"
    screen.line(f"dropping {what} on {host.name}: {amount(manifest.files, manifest.unpacked_size)}")
    screen.settle()
    done = []
    try:
        if load.folder is not None and load.hidden is not None:
            argv = rsync.tree_argv(load.folder, f"{target}/{load.name}", shell=shell, hidden=load.hidden)
            done.append(rsync.run(argv, host))
        done.append(rsync.run(rsync.files_argv(load.files, target, shell=shell), host))
    except KeyboardInterrupt as error:
        raise Interrupted(f"Interrupted while dropping on {host.name}: nothing is deployed before all of it is "
                          "there. Run the same again to go on") from error  # fmt: skip
    files, sent = sum(one.files for one in done), sum(one.sent for one in done)
    screen.line(f"  rsync: {files} files, {bytes_(sent)} sent")
    see = f"ssh {shlex.quote(host.name)} cat {shlex.quote(f'{place}/{load.name}.result.json')}"
    try:
        data = _followed(client, load, screen)
    except Unreachable as problem:
        raise Unreachable(
            f"{what} has landed on {host.name}, but its agent does not say what becomes of it",
            why=problem.why or problem.what,
            hint=f"It is deployed when the agent is up. To see it: {see}",
        ) from problem
    took = duration((time.monotonic() - began) * 1000)
    screen.line(f"{what} is live on {host.name}: release {data.get('release')}, {took}")
    return f"{what} is live, {took}"


def _followed(client: Client, load: _Load, screen: Screen) -> Mapping[str, Any]:
    """The data of the last event of the deployment that what landed came to.

    Raises: Unreachable; the Problem for which there was none, or which ended it.
    """
    for event in client.landing(load.manifest.app, load.digest):
        if event is None:
            continue
        data = event.data
        if data.get("deployment"):
            return follow(client, str(data["deployment"]), screen)
        if isinstance(data.get("problem"), Mapping):
            raise Problem.from_document(data["problem"])
        if data.get("awaited") == "arrival":
            raise Failed(
                Code.BUNDLE_INCOMPLETE,
                f"What has landed on {client.host.name} is not what was signed",
                why=f"the agent waits for {data.get('waiting_for')}",
                hint="Nothing was deployed. Run the same again when nothing writes into the folder, here or there",
            )
        screen.passing(f"  waiting for {data.get('waiting_for')}")
    raise Refused(Code.INTERNAL, "The agent did not say what became of it", hint="See: pusher status")
