"""The releases of one app as they lie on disk: only looked at, never changed.

Invariant: what is said here is read from the disk each time; the journal's opinion plays no part.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.core.layout import AppLayout, is_release_id, live_release, metadata_folder
from agent.core.releases import Release, Standing
from agent.core.venv import COMPLETE
from agent.host.ports import Placed
from agent.host.releases.content import intact, kept, pieces
from pusher.wire import MANIFEST_NAME, Entry, File, Manifest, WireError


class ReleaseStore:
    """`releases/` and `current` of one app. Everything here blocks: call it in a worker thread."""

    def __init__(self, layout: AppLayout) -> None:
        self.layout = layout

    def live(self) -> str | None:
        """The release that `current` points at, if it points at one that is there."""
        try:
            release = live_release(os.readlink(self.layout.current))
        except OSError:
            return None
        return release if release and self.layout.release(release).is_dir() else None

    def version(self) -> str | None:
        """The version of the live release, if there is one and it says."""
        live = self.live()
        try:
            return self.placed(live).version if live else None
        except OSError:
            return None

    def placed(self, release: str) -> Placed:
        """A release with its version, for starting it. Raises: OSError, if it is not there or has none."""
        path = self.layout.release(release)
        try:
            version = self._manifest(path).version
        except (OSError, WireError):  # what is live must come up even with its papers gone
            version = (path / "REVISION").read_text(errors="replace").strip()
        return Placed(release, version, path)

    def ids(self) -> list[str]:
        """The ids of every folder in `releases/` and of every tree still in `.staging/`, oldest first."""
        return sorted({*_release_ids(self.layout.releases), *_release_ids(self.layout.staging)})

    def found(self) -> list[Release]:
        """The releases that are on disk with their papers. What became of them is not known from here."""
        return list(self._found())

    def strange(self) -> list[str]:
        """The ids of the folders in `releases/` that no signed papers say anything about."""
        return sorted({path.name for path in self.kept()} - {release.id for release in self._found()})

    def unfinished(self) -> list[Path]:
        """What lies in `.staging/`: half-built things, and things on their way out."""
        try:
            return sorted(self.layout.staging.iterdir())
        except FileNotFoundError:
            return []

    def kept(self) -> list[Path]:
        """The folders of all releases, newest first: where content can be had without a transfer."""
        return [self.layout.release(one) for one in reversed(_release_ids(self.layout.releases))]

    def intact(self, release: str) -> str:
        """The first difference between what was signed of a release and what is there; empty if there is none.

        What hooks and the app added is no damage: collected static files, say.
        """
        path = self.layout.release(release)
        if not (path / "venv" / COMPLETE).is_file():
            return f"its venv {_venv(path)} is gone; a release sent again gets a new one"
        return intact(path, extra=False)

    def index(self, release: str) -> Iterator[bytes]:
        """The signed index of a release, in pieces of whole lines. Raises: OSError, at once, if there is none."""
        return pieces(self.layout.release(release))

    def missing(self, entries: Iterable[Entry]) -> list[str]:
        """The digests of the content that no release on disk is said to have, in the order of `entries`."""
        wanted = dict.fromkeys(entry.sha256 for entry in entries if isinstance(entry, File))
        here = kept(self.kept(), wanted=wanted)
        return [digest for digest in wanted if digest not in here]

    def venv(self, release: str) -> str:
        """The key of the venv that a release points at; empty if it has none."""
        return _venv(self.layout.release(release))

    def venvs(self) -> set[str]:
        """The keys of the venvs that releases on disk point at."""
        return {key for one in self.kept() if (key := _venv(one))}

    def _found(self) -> Iterator[Release]:
        for path in reversed(self.kept()):
            try:
                manifest = self._manifest(path)
            except (OSError, WireError):
                continue
            yield Release(
                id=path.name,
                version=manifest.version,
                standing=Standing.CANDIDATE,
                created=manifest.created,
                venv=_venv(path),
            )

    @staticmethod
    def _manifest(path: Path) -> Manifest:
        return Manifest.from_bytes((metadata_folder(path) / MANIFEST_NAME).read_bytes())


def _release_ids(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if is_release_id(name))
    except FileNotFoundError:
        return []


def _venv(release: Path) -> str:
    try:
        return os.path.basename(os.readlink(release / "venv"))
    except OSError:
        return ""
