"""The release store: the releases of one app as they lie on disk.

Invariant: this only reads, and it reads from the disk each time. The journal plays no part.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agent.core.layout import SIGNER_NAME, AppLayout, is_release_id, live_release, metadata_folder
from agent.core.releases import Release, Standing
from agent.core.requirements.pylock import PYLOCK
from agent.core.revision import version_of
from agent.core.run import Run
from agent.core.venv import COMPLETE
from agent.host.ports import Placed
from agent.host.releases.content import Content, intact, pieces
from agent.host.releases.run_files import read_run
from agent.host.releases.venv_files import difference
from pusher.wire import MANIFEST_NAME, Entry, File, Manifest, Source, WireError

_RUN = Run()


class Origin(NamedTuple):
    """Where a release comes from: the SHA-256 of its signed manifest, the commit in it, who signed it.

    `size` is the bytes of its files, `lock` the SHA-256 of its `pylock.toml`. Each is empty, or None, if it is not
    known.
    """

    manifest: str = ""
    source: Source | None = None
    signer: str = ""
    size: int | None = None
    lock: str = ""


class ReleaseStore:
    """`releases/` and `current` of one app. Everything here blocks: call it in a thread.

    `unsaid` is how a release runs that has kept nothing about it.
    """

    def __init__(self, layout: AppLayout, unsaid: Run = _RUN) -> None:
        self.layout = layout
        self.unsaid = unsaid

    def live(self) -> str | None:
        """The release that `current` points at; None if it points at none that exists."""
        try:
            release = live_release(os.readlink(self.layout.current))
        except OSError:
            return None
        return release if release and self.layout.release(release).is_dir() else None

    def version(self) -> str | None:
        """The version of the live release; None if there is none, or it has no version."""
        live = self.live()
        try:
            return self.placed(live).version if live else None
        except OSError:
            return None

    def placed(self, release: str) -> Placed:
        """A release with its version, for starting it. Raises: OSError, if either is missing."""
        path = self.layout.release(release)
        try:
            version = self._manifest(path).version
        except (OSError, WireError):  # a live release must start even without its manifest
            version = version_of((path / "REVISION").read_text("utf-8", errors="replace"))
        return Placed(release, version, path, self.run(release))

    def run(self, release: str) -> Run:
        """How a release runs: as it has kept it."""
        return read_run(self.layout.release(release)) or self.unsaid

    def manifest(self, release: str) -> str:
        """The SHA-256 of a release's signed manifest; empty if it has none that can be read."""
        try:
            raw = (metadata_folder(self.layout.release(release)) / MANIFEST_NAME).read_bytes()
        except OSError:
            return ""
        return hashlib.sha256(raw).hexdigest()

    def origin(self, release: str) -> Origin:
        """Where a release comes from."""
        folder = metadata_folder(self.layout.release(release))
        try:
            raw = (folder / MANIFEST_NAME).read_bytes()
        except OSError:
            return Origin()
        source, size, signer = None, None, ""
        with suppress(WireError):
            manifest = Manifest.from_bytes(raw)
            source, size = manifest.source, manifest.unpacked_size
        with suppress(OSError):  # older agents wrote none
            signer = (folder / SIGNER_NAME).read_text("utf-8", errors="replace").strip()
        lock = ""
        with suppress(OSError), (self.layout.release(release) / PYLOCK).open("rb") as file:
            lock = hashlib.file_digest(file, "sha256").hexdigest()
        return Origin(hashlib.sha256(raw).hexdigest(), source, signer, size, lock)

    def ids(self) -> list[str]:
        """The ids of every folder in `releases/` and of every tree in `.staging/`, oldest first."""
        return sorted({*_release_ids(self.layout.releases), *_release_ids(self.layout.staging)})

    def found(self) -> list[Release]:
        """The releases on disk that have a readable manifest, oldest first. All count as candidates here."""
        return list(self._found())

    def strange(self) -> list[str]:
        """The ids of the folders in `releases/` without a readable manifest."""
        return sorted({path.name for path in self.folders()} - {release.id for release in self._found()})

    def unfinished(self) -> list[Path]:
        """The entries of `.staging/`: trees that are half built or about to be deleted."""
        try:
            return sorted(self.layout.staging.iterdir())
        except FileNotFoundError:
            return []

    def folders(self) -> list[Path]:
        """The folders of all releases, newest first: content that is there needs no transfer."""
        return [self.layout.release(one) for one in reversed(_release_ids(self.layout.releases))]

    def intact(self, release: str) -> str:
        """The first difference between a release and what was signed, in words; empty if there is none.

        Files that hooks and the app added are no damage: collected static files, say.
        """
        path = self.layout.release(release)
        if not (path / "venv" / COMPLETE).is_file():
            return f"its venv {_venv(path)} is gone; a release sent again gets a new one"
        return intact(path, extra=False) or difference(self.layout.venv(_venv(path)))

    def index(self, release: str) -> Iterator[bytes]:
        """The signed index of a release, in pieces of whole lines. Raises: OSError, at once, if there is none."""
        return pieces(self.layout.release(release))

    def missing(self, entries: Iterable[Entry]) -> list[str]:
        """The digests of the content that no release on disk should have, in the order of `entries`."""
        wanted = dict.fromkeys(entry.sha256 for entry in entries if isinstance(entry, File))
        here = Content(self.folders(), wanted=wanted)
        return [digest for digest in wanted if digest not in here]

    def venv(self, release: str) -> str:
        """The key of the venv that a release points at; empty if it points at none."""
        return _venv(self.layout.release(release))

    def venvs(self) -> set[str]:
        """The keys of the venvs that releases on disk point at."""
        return {key for one in self.folders() if (key := _venv(one))}

    def _found(self) -> Iterator[Release]:
        for path in reversed(self.folders()):
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
