"""What sending a tree would change on a host: two indexes held against each other.

Invariant: what the files of the host say stays there. Names, modes, sizes and digests are all that is compared,
and so all that is told.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pusher.bundle.source import BundleFile, Folder, locate
from pusher.config import Settings
from pusher.fleet.fleet import on_each
from pusher.terminal.show import Screen, amount, bytes_, release_name, table
from pusher.transport.client import Client
from pusher.wire import Entry, File

_WHEELS = "wheels/"


class Change(NamedTuple):
    """A file or link of which something would be another: `added`, `changed`, `mode` (that alone) or `removed`."""

    kind: str
    old: Entry | None
    new: Entry | None

    @property
    def path(self) -> str:
        """Which one it is."""
        return (self.new or self.old).path  # type: ignore[union-attr]  # one of them is there


@dataclass(frozen=True, slots=True)
class Difference:
    """What is different in `new`. `travelling` are its files whose content the old tree lacks."""

    changes: tuple[Change, ...]
    same: int
    travelling: tuple[File, ...]


def diff(what: str, settings: Settings, screen: Screen, *, release: str, as_json: bool) -> int:
    """What sending a version would change, against the live release or the one named. The exit code.

    Only names, modes and digests are compared: no content of the host's comes back.
    """
    from pusher.bundle import bundle, pack  # late: what only asks a host starts without them

    found = locate(what, source=settings.source)
    packed = bundle.read(found.path) if isinstance(found, BundleFile) else None
    version = found.version if isinstance(found, Folder) else ""
    entries = packed.entries if packed else pack.read(found.path).entries

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
        }
        if as_json:
            screen.document({**facts, **document(difference), "address": client.host.name})
            return ""
        screen.line(f"{app} {facts['version']} against {_compared(release, live)} on {client.host.name}")
        for line in summary(difference):
            screen.line(line)
        if facts["requirements_changed"]:
            screen.line(f"{requirements}, or wheels/, is another: its dependencies are installed anew")
        return ""

    return on_each(settings, screen, act)


def compare(old: Iterable[Entry], new: Collection[Entry]) -> Difference:
    """The difference between two trees, sorted by path."""
    before = {entry.path: entry for entry in old}
    there = {entry.sha256 for entry in before.values() if isinstance(entry, File)}
    changes: list[Change] = []
    for entry in new:
        was = before.pop(entry.path, None)
        if was != entry:
            changes.append(Change(_kind(was, entry), was, entry))
    changes += (Change("removed", gone, None) for gone in before.values())
    return Difference(
        changes=tuple(sorted(changes, key=lambda change: change.path)),
        same=len(new) - sum(change.new is not None for change in changes),
        travelling=tuple(one for one in new if isinstance(one, File) and one.sha256 not in there),
    )


def requirements_changed(difference: Difference, requirements: str) -> bool:
    """Whether what a host makes the venv from is another: its requirements file, or the tree's own wheels."""
    return any(one.path == requirements or one.path.startswith(_WHEELS) for one in difference.changes)


def document(difference: Difference) -> dict[str, Any]:
    """It as JSON members."""
    return {
        "changes": [
            {"change": change.kind, "path": change.path, "old": _members(change.old), "new": _members(change.new)}
            for change in difference.changes
        ],
        "same": difference.same,
        "new_files": len(difference.travelling),
        "new_bytes": sum(file.size for file in difference.travelling),
    }


def summary(difference: Difference) -> Iterator[str]:
    """It as a table, and in numbers."""
    rows = [(change.kind, change.path, _told(change)) for change in difference.changes]
    if rows:
        yield from table(("CHANGE", "PATH", ""), rows)
        yield ""
    kinds = [row[0] for row in rows]
    counts = [f"{kinds.count(kind)} {kind}" for kind in ("added", "changed", "mode", "removed") if kind in kinds]
    yield ", ".join([*counts, f"{difference.same} the same"])
    new = amount(len(difference.travelling), sum(file.size for file in difference.travelling))
    yield f"content to send, unless another release there has it: {new}"


def _kind(was: Entry | None, entry: Entry) -> str:
    if was is None:
        return "added"
    same = isinstance(was, File) and isinstance(entry, File) and was.sha256 == entry.sha256
    return "mode" if same else "changed"


def _told(change: Change) -> str:
    old, new = _spelled(change.old, mode=change.kind == "mode"), _spelled(change.new, mode=change.kind == "mode")
    return f"{old} -> {new}" if old and new else old or new


def _spelled(entry: Entry | None, *, mode: bool) -> str:
    if entry is None:
        return ""
    if isinstance(entry, File):
        return f"{entry.mode:04o}" if mode else bytes_(entry.size)
    return f"link to {entry.target}"


def _members(entry: Entry | None) -> Mapping[str, Any] | None:
    if entry is None:
        return None
    members = entry._asdict()
    del members["path"]
    return members | ({"mode": f"{entry.mode:04o}"} if isinstance(entry, File) else {})


def _compared(release: str, live: object) -> str:
    if release:
        return f"release {release}"
    return f"{release_name(live)}, which is live" if isinstance(live, Mapping) else "nothing: no release is live"
