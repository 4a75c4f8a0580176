"""`pusher drop`: pack, sign, rsync into the host's drop directory, and follow the deployment.

Invariant: the agent decides by content, so files may arrive in any order and in several attempts. The agent need
not be running: a drop is deployed when it is.
"""

import argparse
import hashlib
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pusher.bundle.archive import bundle_name, read_bundle, write_bundle
from pusher.bundle.manifest import accepted, manifest_for
from pusher.bundle.signed_manifest import SignedManifest, sign_manifest, write_beside
from pusher.bundle.source import BundleFile, Folder
from pusher.bundle.tree import Tree, dangling
from pusher.commands.command import Command
from pusher.commands.confirm import add_confirm, confirm
from pusher.commands.options import add_options, add_what
from pusher.commands.what import chosen
from pusher.config import Settings, load
from pusher.errors import Interrupted, Unreachable, Usage
from pusher.fleet.fleet import clients_of, each
from pusher.fleet.follow import check_live, follow
from pusher.fleet.rollout import ASKING_S, Rollout, RolloutOptions
from pusher.terminal.screen import Screen
from pusher.terminal.text import amount, byte_count, duration
from pusher.transport import drop_place, rsync
from pusher.transport.client import Client, is_deployment
from pusher.wire import DROP_FOLDER, FOLDERS, Code, Failed, Manifest, Problem, Refused

_Statuses = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Shipment:
    """What is dropped on every host: `files`, and a link to the folder if it is not dropped as a bundle file.

    `hidden` are the rsync rules for the files of the folder that do not travel.
    """

    manifest: Manifest
    digest: str
    name: str
    files: Sequence[Path]
    folder: Path | None = None
    hidden: Path | None = None


def _options(parser: argparse.ArgumentParser) -> None:
    add_what(parser)
    parser.add_argument("--bundle", action="store_true", help="drop a bundle file, not a folder")
    add_options(parser, "host", "app", "source", "key", "ssh")
    add_confirm(parser)


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    with clients_of(settings) as clients:
        found = chosen(arguments, settings)
        confirm(arguments, settings, doing=f"sends {found.name}")
        rollout = Rollout(clients, screen, options=RolloutOptions())
        with tempfile.TemporaryDirectory(prefix="pusher-drop-") as aside:
            if isinstance(found, BundleFile):
                packed = read_bundle(found.path)
                statuses = _statuses(packed.manifest.app, rollout)
                shipment = _Shipment(packed.manifest, _digest(packed.signed), found.path.name, [found.path])
            else:
                app = settings.app_name()
                statuses = _statuses(app, rollout)
                shipment = _of_folder(
                    found, app, settings, statuses, screen, Path(aside), as_bundle=arguments.bundle
                )
            deliver = partial(
                _deliver, shipment=shipment, statuses=statuses, ssh=settings.ssh, alone=not rollout.several
            )
            return each(clients, deliver, screen)


COMMAND = Command(
    name="drop",
    help="deploy a version by rsync, into the drop directory",
    description="Deploys a version by rsync into the host's drop directory, and follows the deployment.",
    options=_options,
    run=_run,
)


def _statuses(app: str, rollout: Rollout) -> _Statuses:
    """The status of each host, by its name here. Hosts without an answer are left out: no agent need be running.

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
) -> _Shipment:
    from pusher.dependencies.named import named_packages
    from pusher.run.section import run_section

    tree = found.read()
    for remark in found.remarks(tree):
        screen.line(remark)
    screen.dangling(dangling(tree))
    said = run_section(found.path, settings.run, packages=named_packages(found.path))
    all_answered = len(statuses) == len(settings.chosen)
    if not (all_answered and accepted(FOLDERS, statuses)):
        tree = tree.without_folders()
    manifest = manifest_for(
        statuses,
        tree,
        app=app,
        version=found.version,
        source=found.source(tree),
        run=said.section,
        run_found=said.found,
        all_answered=all_answered,
    )
    signed = sign_manifest(manifest, tree, key=settings.key)
    try:
        return _written(tree, manifest, signed, aside, as_bundle=as_bundle)
    except OSError as error:
        hint = "Is the disk full? Name another folder with TMPDIR"
        why = f"{error.strerror or error} ({error.filename or aside})"
        raise Usage("The drop cannot be prepared", why=why, hint=hint) from error


def _written(tree: Tree, manifest: Manifest, signed: SignedManifest, aside: Path, *, as_bundle: bool) -> _Shipment:
    """Write the files that travel beside the tree, or instead of it, into the folder `aside`. Raises: OSError."""
    if as_bundle:
        file = aside / bundle_name(manifest.app, manifest.version)
        with file.open("xb") as out:
            out.writelines(write_bundle(signed, tree.contents()))
        return _Shipment(manifest, _digest(signed), file.name, [file])
    hidden = aside / "hidden"
    travelling = [entry.path for entry in tree.entries]
    hidden.write_bytes(b"".join(rsync.hidden(tree.folder, travelling, name=DROP_FOLDER)))
    named = aside / DROP_FOLDER
    named.symlink_to(tree.folder.absolute())
    beside = write_beside(signed, aside / "manifest")
    return _Shipment(manifest, _digest(signed), DROP_FOLDER, beside, named, hidden)


def _digest(signed: SignedManifest) -> str:
    return hashlib.sha256(signed.manifest).hexdigest()


def _deliver(
    client: Client,
    screen: Screen,
    *,
    shipment: _Shipment,
    statuses: _Statuses,
    ssh: str,
    alone: bool,
) -> str:
    """Drop on one host, and follow the deployment to its end; the result in one line."""
    began, host, manifest = time.monotonic(), client.host, shipment.manifest
    status = statuses.get(host.name, {})
    place = drop_place.place(host, manifest.app, status.get("drop"))
    target, shell = rsync.target(host, place), rsync.remote_shell(host, ssh=ssh, may_ask=alone)
    what = f"{manifest.app} {manifest.version}"
    screen.line(f"dropping {what} on {host.name}: {amount(manifest.files, manifest.unpacked_size)}")
    screen.clear()
    done = []
    try:
        rsync.check_mark(rsync.mark_argv(target, shell=shell), host)
        if shipment.folder is not None and shipment.hidden is not None:
            argv = rsync.tree_argv(shipment.folder, target, shell=shell, hidden=shipment.hidden)
            done.append(rsync.run(argv, host))
        done.append(rsync.run(rsync.files_argv(shipment.files, target, shell=shell), host))
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"Interrupted while dropping on {host.name}. Nothing is deployed before all files have arrived. "
            "To go on, run the command again"
        ) from error
    files, sent = sum(one.files for one in done), sum(one.sent for one in done)
    screen.line(f"  rsync: {files} files, {byte_count(sent)} sent")
    see = f"ssh {shlex.quote(host.name)} cat {shlex.quote(f'{place}/{shipment.name}.result.json')}"
    try:
        data = _followed(client, shipment, screen)
    except Unreachable as problem:
        raise Unreachable(
            f"{what} has arrived on {host.name}, but its agent does not answer",
            why=problem.why or problem.what,
            hint=f"It is deployed when the agent is running. To see the result: {see}",
        ) from problem
    check_live(data, shipment.digest, what=what, host=host.name)
    took = duration((time.monotonic() - began) * 1000)
    screen.line(f"{what} is live on {host.name}: release {data.get('release')}, {took}")
    return f"{what} is live, {took}"


def _followed(client: Client, shipment: _Shipment, screen: Screen) -> Mapping[str, Any]:
    """The data of the last event of the deployment of this drop.

    Raises: Unreachable; the Problem because of which there was no deployment, or which ended it.
    """
    for event in client.drop_events(shipment.manifest.app, shipment.digest):
        if event is None:
            continue
        data = event.data
        if is_deployment(data.get("deployment"), shipment.manifest.app):
            return follow(client, str(data["deployment"]), screen)
        if isinstance(data.get("problem"), Mapping):
            raise Problem.from_document(data["problem"])
        if data.get("awaited") == "arrival":
            raise Failed(
                Code.BUNDLE_INCOMPLETE,
                f"The files on {client.host.name} are not the signed ones",
                why=f"the agent waits for {data.get('waiting_for')}",
                hint="Nothing was deployed. Run the command again when no program writes into the folder",
            )
        screen.passing(f"  waiting for {data.get('waiting_for')}")
    raise Refused(Code.INTERNAL, "The agent did not report the result of the drop", hint="See: pusher status")
