"""`pusher diff`: what sending a version would change. Nothing is sent or signed."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from pusher.bundle.archive import read_bundle
from pusher.bundle.difference import Change, Difference, compare, requirements_changed
from pusher.bundle.source import BundleFile, Folder
from pusher.commands.command import Command, always
from pusher.commands.options import add_options, add_what
from pusher.commands.what import chosen, prepared
from pusher.config import load
from pusher.fleet.fleet import on_each
from pusher.terminal.screen import Screen
from pusher.terminal.text import Table, amount, byte_count, release_name
from pusher.transport.client import Client
from pusher.wire import Directory, Entry, File, Link


def _options(parser: argparse.ArgumentParser) -> None:
    add_what(parser)
    parser.add_argument(
        "--release", default="", metavar="ID", help="compare with this release, not with the live one"
    )
    add_options(parser, "host", "app", "source", "ssh", "json")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings, release = load(vars(arguments)), arguments.release
    found = chosen(arguments, settings, dirty=True)  # nothing is sent
    packed = read_bundle(found.path) if isinstance(found, BundleFile) else None
    version, notes = "", tuple[str, ...]()
    entries = packed.entries if packed else ()
    if isinstance(found, Folder):
        tree = prepared(found, settings).tree
        version, entries, notes = found.version, tree.entries, tuple(found.remarks(tree))

    def act(client: Client, screen: Screen) -> str:
        status = client.status(settings.app)
        app = str(status.get("app"))
        live = status.get("live")
        against = release or (str(live.get("release")) if isinstance(live, Mapping) else "")
        difference = compare(client.index(app, against) if against else (), entries)
        requirements = str(status.get("requirements", ""))
        facts = {
            "app": app,
            "version": packed.manifest.version if packed else version,
            "release": against or None,
            "requirements_changed": requirements_changed(difference, requirements),
            "drift": status.get("drift"),
        }
        if arguments.json:
            screen.document({**facts, **_members(difference), "address": client.host.name})
            return ""
        for note in notes:
            screen.line(note)
        if status.get("drift"):
            screen.line(f"drift: {status['drift']} on {client.host.name}; a send replaces it")
        screen.line(f"{app} {facts['version']} against {_old_name(release, live)} on {client.host.name}")
        for line in _lines(difference):
            screen.show(line)
        if facts["requirements_changed"]:
            screen.line(f"{requirements} or wheels/ changed: the dependencies are installed anew")
        return ""

    return on_each(settings, screen, act)


COMMAND = Command(
    name="diff",
    help="show what sending a version would change",
    description="Shows what sending a version would change. Nothing is sent or signed. Only names, modes and "
    "digests are compared: no content of the host's files comes back.",
    options=_options,
    run=_run,
    reads=always,
)


def _members(difference: Difference) -> dict[str, Any]:
    """The difference as JSON members."""
    return {
        "changes": [
            {"change": change.kind, "path": change.path, "old": _entry(change.old), "new": _entry(change.new)}
            for change in difference.changes
        ],
        "same": difference.same,
        "new_files": len(difference.travelling),
        "new_bytes": sum(file.size for file in difference.travelling),
    }


def _lines(difference: Difference) -> Iterator[str | Table]:
    """The difference as a table, and in numbers."""
    rows = [(change.kind, change.path, _old_and_new(change)) for change in difference.changes]
    if rows:
        yield Table(("CHANGE", "PATH", ""), rows)
        yield ""
    kinds = [row[0] for row in rows]
    counts = [f"{kinds.count(kind)} {kind}" for kind in ("added", "changed", "mode", "removed") if kind in kinds]
    yield ", ".join([*counts, f"{difference.same} the same"])
    new = amount(len(difference.travelling), sum(file.size for file in difference.travelling))
    yield f"content to send, unless another release has it: {new}"


def _old_and_new(change: Change) -> str:
    old, new = _value(change.old, mode=change.kind == "mode"), _value(change.new, mode=change.kind == "mode")
    return f"{old} -> {new}" if old and new else old or new


def _value(entry: Entry | None, *, mode: bool) -> str:
    if entry is None:
        return ""
    if isinstance(entry, File):
        return f"{entry.mode:04o}" if mode else byte_count(entry.size)
    return f"link to {entry.target}" if isinstance(entry, Link) else "empty folder"


def _entry(entry: Entry | None) -> Mapping[str, Any] | None:
    if entry is None:
        return None
    if isinstance(entry, Directory):
        return {"folder": True}
    members = entry._asdict()
    del members["path"]
    return members | ({"mode": f"{entry.mode:04o}"} if isinstance(entry, File) else {})


def _old_name(release: str, live: object) -> str:
    if release:
        return f"release {release}"
    return f"{release_name(live)}, which is live" if isinstance(live, Mapping) else "nothing: no release is live"
