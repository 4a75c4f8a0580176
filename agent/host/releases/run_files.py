"""How a release runs, as two files in its metadata folder: one for the agent, one for the runner.

Invariant: they say the same. Both are written before the release is published, and never changed.
"""

from pathlib import Path

from agent.core.layout import metadata_folder
from agent.core.run import Run, parse_run, run_text, start_text
from agent.host.storage.disk import Disk
from pusher.wire import MANIFEST_NAME, Manifest, RunSection

_RUN, _START = "run.json", "start"


def read_run(release: Path) -> Run | None:
    """How a release runs; None if it has kept nothing that can be read. Blocking."""
    try:
        return parse_run((metadata_folder(release) / _RUN).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def read_section(release: Path) -> RunSection:
    """What the signed manifest of a release says of how it runs. Blocking. Raises: OSError, WireError."""
    return Manifest.from_bytes((metadata_folder(release) / MANIFEST_NAME).read_bytes()).run


def stage_run(release: Path, run: Run, *, disk: Disk) -> None:
    """Write both files into a tree that is being built, and is flushed later. Blocking. Raises: Failed."""
    folder = metadata_folder(release)
    disk.create(folder / _START, [start_text(run).encode()], mode=0o644, op="stage.start")
    disk.create(folder / _RUN, [run_text(run).encode()], mode=0o644, op="stage.run")


def write_run(release: Path, run: Run, *, disk: Disk) -> None:
    """Write both files durably. Blocking. Raises: Failed."""
    folder = metadata_folder(release)
    disk.make_folder(folder, mode=0o755, op="run.folder")
    disk.write(folder / _START, start_text(run).encode(), op="run.start", replace=True)
    disk.write(folder / _RUN, run_text(run).encode(), op="run.json", replace=True)


def keeps_run(release: Path) -> bool:
    """Whether a release has both files. Blocking."""
    folder = metadata_folder(release)
    return read_run(release) is not None and (folder / _START).is_file()
