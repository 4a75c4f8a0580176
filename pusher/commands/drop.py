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

from pusher.bundle import bundle, pack
from pusher.bundle.signed_manifest import app_name, manifest_for, sign_tree, write_beside
from pusher.bundle.source import BundleFile, Folder, locate
from pusher.config import Settings
from pusher.errors import Interrupted, Unreachable, Usage
from pusher.fleet.fleet import clients_of, each
from pusher.fleet.follow import follow
from pusher.fleet.rollout import ASKING_S, Rollout, Tour
from pusher.terminal.show import Screen, amount, bytes_, duration
from pusher.transport import rsync
from pusher.transport.client import Client
from pusher.wire import DROP_FOLDER, DROP_ROOT, Code, Failed, Manifest, Problem, Refused

_Statuses = Mapping[str, Mapping[str, Any]]


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
    with clients_of(settings) as clients:
        found = locate(what, source=settings.source)
        rollout = Rollout(clients, screen, tour=Tour())
        with tempfile.TemporaryDirectory(prefix="pusher-drop-") as aside:
            if isinstance(found, BundleFile):
                packed = bundle.read(found.path)
                statuses = _statuses(packed.manifest.app, rollout)
                load = _Load(packed.manifest, _digest(packed.signed), found.path.name, [found.path])
            else:
                app = app_name(settings)
                statuses = _statuses(app, rollout)
                load = _of_folder(found, app, settings, statuses, screen, Path(aside), as_bundle=as_bundle)
            deliver = partial(_deliver, load=load, statuses=statuses, ssh=settings.ssh, alone=not rollout.several)
            return each(clients, deliver, screen)


def _statuses(app: str, rollout: Rollout) -> _Statuses:
    """What the agents say, by what we call their hosts; none of those that do not answer: they need not be there.

    Raises: as `Rollout.ask`.
    """

    def ask(client: Client) -> Mapping[str, Any] | None:
        try:
            return client.status(app, patience_s=ASKING_S if rollout.several else None)
        except Unreachable:
            return None

    found = rollout.ask(ask, doing="asking")
    return {name: status for name, status in found.items() if status is not None}


def _of_folder(
    found: Folder,
    app: str,
    settings: Settings,
    statuses: _Statuses,
    screen: Screen,
    aside: Path,
    *,
    as_bundle: bool,
) -> _Load:
    tree = pack.read(found.path)
    screen.dangling(pack.dangling(tree))
    all_answered = len(statuses) == len(settings.chosen)
    manifest = manifest_for(statuses, tree, app=app, version=found.version, all_answered=all_answered)
    signed = sign_tree(manifest, tree, key=settings.key)
    try:
        return _written(tree, manifest, signed, aside, as_bundle=as_bundle)
    except OSError as error:
        hint = "Is there room for it? TMPDIR can name another folder"
        why = f"{error.strerror or error} ({error.filename or aside})"
        raise Usage("What is to be dropped cannot be made ready", why=why, hint=hint) from error


def _written(
    tree: pack.Tree, manifest: Manifest, signed: bundle.SignedManifest, aside: Path, *, as_bundle: bool
) -> _Load:
    """The files that travel beside the tree, or instead of it, in the folder `aside`. Raises: OSError."""
    if as_bundle:
        file = aside / f"{manifest.app}-{manifest.version}.tar.zst"
        with file.open("xb") as out:
            out.writelines(bundle.write(signed, tree.contents()))
        return _Load(manifest, _digest(signed), file.name, [file])
    hidden = aside / "hidden"
    hidden.write_bytes(b"".join(rsync.hidden(tree.folder, [entry.path for entry in tree.entries])))
    beside = write_beside(signed, aside / "papers")
    return _Load(manifest, _digest(signed), DROP_FOLDER, beside, tree.folder, hidden)


def _digest(signed: bundle.SignedManifest) -> str:
    return hashlib.sha256(signed.manifest).hexdigest()


def _deliver(
    client: Client,
    screen: Screen,
    *,
    load: _Load,
    statuses: _Statuses,
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
