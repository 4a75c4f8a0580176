"""`pusher send`: pack, sign, ask what is missing, send that, and follow the deployment until it serves.

Invariant: all hosts get the same signed manifest. A host that is asked twice sees an equal one, so nothing is
deployed twice.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pusher.bundle.archive import read_bundle
from pusher.bundle.left_out import named
from pusher.bundle.manifest import accepted, manifest_for
from pusher.bundle.signed_manifest import sign_manifest
from pusher.bundle.source import BundleFile, Folder
from pusher.bundle.tree import Tree, dangling
from pusher.commands.command import Command
from pusher.commands.confirm import add_confirm, confirm
from pusher.commands.options import add_dependencies, add_options, add_what
from pusher.commands.several import add_rollout, rollout_options
from pusher.commands.what import chosen, prepared
from pusher.config import Settings, load
from pusher.errors import Usage
from pusher.fleet.background import Background
from pusher.fleet.delivery import Shipment, ask_missing, deliver, likely_missing
from pusher.fleet.fleet import clients_of
from pusher.fleet.follow import Live
from pusher.fleet.rollout import ASKING_S, Rollout
from pusher.fleet.skew import skew
from pusher.terminal.screen import Screen
from pusher.transport.client import Client
from pusher.wire import FOLDERS, Problem

if TYPE_CHECKING:
    from pusher.commands.what import Ready
    from pusher.run.section import Said
    from pusher.wire import Source


def _options(parser: argparse.ArgumentParser) -> None:
    add_what(parser)
    add_options(parser, "host", "app", "source", "key", "ssh", "json")
    add_dependencies(parser)
    add_rollout(parser, all_or_none=True)
    add_confirm(parser)


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    if not arguments.json:
        return _send(arguments, screen, None)
    reports = Reports(screen)
    try:
        return _send(arguments, screen.muted(), reports)
    except Problem as problem:
        reports.failed(problem)
        raise


def _send(arguments: argparse.Namespace, screen: Screen, reports: "Reports | None") -> int:
    settings = load(vars(arguments))
    with clients_of(settings) as clients:
        found = chosen(arguments, settings)
        confirm(arguments, settings, doing=f"sends {found.name}")
        rollout = Rollout(clients, screen, options=rollout_options(arguments))
        if isinstance(found, BundleFile):
            shipment, statuses = _from_file(found, rollout)
        else:
            shipment, statuses = _from_folder(found, settings, rollout, screen, relock=arguments.relock)
        if rollout.several:
            shipment = replace(shipment, missing=_missing(shipment, rollout))
        return rollout.change(partial(_deliver, shipment=shipment, reports=reports), before=_live(statuses))


COMMAND = Command(
    name="send",
    help="deploy a version, and stay until it serves",
    description="Deploys a version, and stays until it serves. Several hosts are all asked first: if one of them "
    "cannot be reached, or would refuse, none is changed.",
    options=_options,
    run=_run,
)


class Reports:
    """What came of a command, as JSON: a document for each host, in the order in which they ended."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._hosts: set[str] = set()

    def done(self, host: str, data: Mapping[str, Any]) -> None:
        """The deployment on a host ended well; `data` is that of its last event."""
        self._hosts.add(host)
        self._screen.document({**data, "address": host})

    def failed(self, problem: Problem, *, host: str = "") -> None:
        """It did not end well on this host; without `host`, the command did not, unless a host has said why."""
        if host or not self._hosts:
            self._hosts.add(host)
            document = {"outcome": problem.outcome, "problem": problem.to_document(), "address": host or None}
            self._screen.document(document)


def _from_file(found: BundleFile, rollout: Rollout) -> tuple[Shipment, dict[str, dict[str, Any]]]:
    for client in rollout.clients:
        client.open()
    packed = read_bundle(found.path)
    shipment = Shipment(packed.manifest, packed.signed, packed)
    # A single host reports every problem when it receives the bundle.
    return shipment, _statuses(packed.manifest.app, rollout) if rollout.several else {}


def _from_folder(
    found: Folder, settings: Settings, rollout: Rollout, screen: Screen, *, relock: bool
) -> tuple[Shipment, dict[str, dict[str, Any]]]:
    app = settings.app_name()
    # Connecting to a host may take longer than reading the folder, and asking git.
    reading = Background(partial(_read, found, settings, anew=relock))
    screen.passing(f"  reading {found.path} ...")
    statuses = _statuses(app, rollout)
    (tree, notes, said, requires), source = reading.result()
    for name, status in statuses.items():
        notes = (*notes, *skew(status.get("agent"), host=name))
    for note in notes:
        screen.line(note)
    if tree.folders and not accepted(FOLDERS, statuses):
        names = named([one.path for one in tree.folders])
        screen.line(f"left out, because an agent is older than empty folders: {names}")
        tree = tree.without_folders()
        source = found.source(tree)
    screen.dangling(dangling(tree))
    manifest = manifest_for(
        statuses,
        tree,
        app=app,
        version=found.version,
        source=source,
        run=said.section,
        run_found=said.found,
        requires_python=requires,
    )
    _check_started(said, statuses)
    screen.passing("  signing ...")
    # Importing this takes a while, and there is nothing else to do while ssh-keygen works.
    Background(partial(import_module, "zstandard"))
    signed = sign_manifest(manifest, tree, key=settings.key)
    likely, dependencies = likely_missing(tree, statuses), _dependencies(tree, statuses)
    return Shipment(manifest, signed, tree, likely=likely, dependencies=dependencies), statuses


def _read(found: Folder, settings: Settings, *, anew: bool) -> "tuple[Ready, Source | None]":
    """A folder as it travels, and the commit that it comes from. Raises: Usage."""
    ready = prepared(found, settings, anew=anew)
    return ready, found.source(ready.tree)


def _dependencies(tree: Tree, statuses: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Whether the tree asks for what is installed for a host's live release, in words. Without a lock, nothing."""
    lock = next((file.sha256 for file in tree.files if file.path == "pylock.toml"), "")
    found = dict[str, str]()
    for name, status in statuses.items():
        live = status.get("live")
        if lock and isinstance(live, Mapping) and live.get("lock"):
            same = live["lock"] == lock
            found[name] = "dependencies as before" if same else "a venv is made for other dependencies"
    return found


_HOW = (
    'Write into pusher.toml, under [run]: start = "COMMAND". A program that opens a port of its own needs '
    'listen_via = "port" there too, and listens at 127.0.0.1 and the port in the variable PORT, as with '
    'start = "python main.py --port=$PORT"'
)


def _check_started(said: "Said", statuses: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises: Usage, for a version that no server could serve, on hosts that leave that to it."""
    if said.lacking and statuses and all(status.get("host_start") == "" for status in statuses.values()):
        raise Usage(
            "Nothing was sent: the version cannot be started",
            why=said.note.partition("; ")[2],
            hint='Or write into pusher.toml, under [run]: start = "COMMAND"' if said.then else _HOW,
        )


def _statuses(app: str, rollout: Rollout) -> dict[str, dict[str, Any]]:
    """The status of each host, by its name here."""
    patience = ASKING_S if rollout.several else None
    return rollout.ask(lambda client: client.status(app, patience_s=patience), doing="asking")


def _missing(shipment: Shipment, rollout: Rollout) -> dict[str, frozenset[str]]:
    """The digests each host lacks, by its name here. All are asked, so that all verify the manifest."""
    # Hosts that lack the same share one set: it is large for 100,000 files.
    shared: dict[frozenset[str], frozenset[str]] = {}

    def ask(client: Client) -> frozenset[str]:
        found = ask_missing(client, shipment)
        return shared.setdefault(found, found)

    return rollout.ask(ask, doing="checking")


def _live(statuses: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The release that is live on each host."""
    found = {name: status.get("live") for name, status in statuses.items()}
    return {name: str(live.get("release")) for name, live in found.items() if isinstance(live, Mapping)}


def _deliver(client: Client, screen: Screen, *, shipment: Shipment, reports: Reports | None) -> Live:
    """Send to one host, and follow the deployment to its end."""
    try:
        data = deliver(client, screen, shipment)
    except Problem as problem:
        if reports:
            reports.failed(problem, host=client.host.name)
        raise
    if reports:
        reports.done(client.host.name, data)
    release, previous = str(data.get("release")), str(data.get("previous") or "")
    return Live(shipment.manifest.app, shipment.manifest.version, release, previous)
