"""The difference between two trees, by their indexes.

Invariant: only names, modes, sizes and digests are compared. The content of a host's files stays there.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pusher.wire import Entry, File

_WHEELS = "wheels/"


class Change(NamedTuple):
    """A file or link that differs: `added`, `changed`, `mode` (only the mode differs) or `removed`."""

    kind: str
    old: Entry | None
    new: Entry | None

    @property
    def path(self) -> str:
        """The path of the file or link."""
        return (self.new or self.old).path  # type: ignore[union-attr]  # one of them is not None


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs in the new tree. `travelling` are its files whose content the old tree lacks."""

    changes: tuple[Change, ...]
    same: int
    travelling: tuple[File, ...]


def compare(old: Iterable[Entry], new: Collection[Entry]) -> Difference:
    """The difference between two trees, sorted by path."""
    before = {entry.path: entry for entry in old}
    digests = {entry.sha256 for entry in before.values() if isinstance(entry, File)}
    changes: list[Change] = []
    for entry in new:
        was = before.pop(entry.path, None)
        if was != entry:
            changes.append(Change(_kind(was, entry), was, entry))
    changes += (Change("removed", gone, None) for gone in before.values())
    return Difference(
        changes=tuple(sorted(changes, key=lambda change: change.path)),
        same=len(new) - sum(change.new is not None for change in changes),
        travelling=tuple(one for one in new if isinstance(one, File) and one.sha256 not in digests),
    )


def requirements_changed(difference: Difference, requirements: str) -> bool:
    """Whether a host would install dependencies anew: the lock, its requirements file or the wheels changed."""
    return any(
        one.path in (requirements, "pylock.toml") or one.path.startswith(_WHEELS) for one in difference.changes
    )


def _kind(was: Entry | None, entry: Entry) -> str:
    if was is None:
        return "added"
    same = isinstance(was, File) and isinstance(entry, File) and was.sha256 == entry.sha256
    return "mode" if same else "changed"
