"""What the build steps of a release have made, as an index in its metadata folder.

Invariant: the index is written when all of its files are in the release and flushed. From then on they belong to
it as the signed ones do: what differs from the index is damage.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.core.layout import metadata_folder
from agent.host.storage.disk import Disk
from pusher.wire import File, index_line

_BUILT = "built.jsonl"


def built_index(release: Path) -> Iterator[bytes]:
    """The lines of the index, none if nothing was built. Blocking. Raises: OSError, if it cannot be read."""
    try:
        with (metadata_folder(release) / _BUILT).open("rb") as lines:
            yield from lines
    except FileNotFoundError:
        return


def write_built(release: Path, files: Sequence[File], *, disk: Disk) -> None:
    """Flush the files, then write their index. Blocking. Raises: Failed."""
    disk.sync_tree(release, op="build.sync")
    disk.write(metadata_folder(release) / _BUILT, b"".join(map(index_line, files)), op="build.index", replace=True)
