"""From a stored index and arriving files to a staged tree that holds exactly what was signed.

Invariant: only names of the index are created, each in a folder that was opened without following a link, and
each file is hashed as it is written. Modes, owners, times and links of the archive play no part. Links are made
last, so that while files are written there is none to write through.

Content that did not travel is copied from releases on disk, and hashed on the way. An unfinished tree is left for
the caller to remove: all undoing is in one place, the executor.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.core.layout import SIGNER_NAME, metadata_folder
from agent.core.revision import revision
from agent.host.ports import Bundle
from agent.host.releases.content import Content, opened
from agent.host.storage.disk import Disk
from agent.host.storage.errors import explained
from agent.host.storage.folders import Folders
from pusher.wire import (
    INDEX_NAME,
    MANIFEST_NAME,
    SIGNATURE_NAME,
    Code,
    Directory,
    Failed,
    File,
    LimitError,
    Limits,
    Link,
    Manifest,
    Refused,
    WireError,
    read_index,
)
from pusher.wire.problems import malformed_bundle

RESERVE = 16 * 1024 * 1024
"""How many bytes stay free on the filesystem, for the journal and for the app's own logs."""

_FOLDER_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Unpacked:
    """How many files of a tree came with the bundle, and how many were copied from releases on disk."""

    arrived: int
    copied: int


def write_metadata(
    into: Path, *, manifest: bytes, signature: bytes, index: Iterable[bytes], disk: Disk, signer: str = ""
) -> None:
    """Begin the tree `into` with its metadata folder, durably. The parent of `into` must exist. Blocking.

    `signer` are the names of those whose signatures count, for people; what counts is the signature.
    `index` yields lines and is read to its end; what it raises passes through. Raises: Failed.
    """
    disk.make_folder(into, mode=_FOLDER_MODE, exist_ok=False, op="metadata.tree")
    folder = metadata_folder(into)
    disk.make_folder(folder, mode=_FOLDER_MODE, exist_ok=False, op="metadata.folder")
    disk.create(folder / MANIFEST_NAME, [manifest], mode=0o644, op="metadata.manifest")
    disk.create(folder / SIGNATURE_NAME, [signature], mode=0o644, op="metadata.signature")
    disk.create(folder / INDEX_NAME, index, mode=0o644, op="metadata.index")
    if signer:
        disk.create(folder / SIGNER_NAME, [f"{signer}\n".encode()], mode=0o644, op="metadata.signer")
    disk.sync_tree(folder, op="metadata.sync")
    disk.sync_folder(into, op="metadata.sync-tree")
    disk.sync_folder(into.parent, op="metadata.sync-parent")


def unpack(
    bundle: Bundle,
    *,
    into: Path,
    version: str,
    releases: Callable[[], Iterable[Path]],
    disk: Disk,
    limits: Limits,
) -> Unpacked:
    """Complete the tree `into`, which has only its metadata folder, from a bundle whose index was read. Blocking.

    `releases` lists the folders that content may be copied from, the best first. When this returns, every file
    and link of the index is there, `REVISION` and `.complete` too, and all of it is flushed.

    Raises: Refused (disk_full before anything is written, content_mismatch, bundle_malformed,
    bundle_incomplete), Failed (disk_full, disk_error, and what the bundle raises).
    """
    files, links, empty = _read_index(into, limits)
    check_room(into, size=sum(file.size for file in files.values()), files=len(files) + len(links) + len(empty))
    with Folders(into) as folders:
        for folder in sorted({*_folders([*files, *empty, *(link.path for link in links)]), *empty}):
            descriptor, name = folders.of(folder)
            disk.make_folder(name, folder=descriptor, mode=_FOLDER_MODE, exist_ok=False, op="stage.folder")
        arrived = _write_arriving(bundle, files, folders, disk)
        rest = [file for path, file in files.items() if path not in arrived]
        if rest:
            wanted = {file.sha256 for file in rest}
            here = {files[path].sha256: f"{into}/{path}" for path in arrived if files[path].sha256 in wanted}
            _copy_all(rest, _Sources(Content(releases(), wanted=wanted), here), folders, disk)
        for link in links:
            descriptor, name = folders.of(link.path)
            disk.link(name, link.target, folder=descriptor, op="stage.link")
        descriptor, _ = folders.of("REVISION")
        disk.create("REVISION", [_revision(into, version)], folder=descriptor, mode=0o644, op="stage.revision")
        disk.create(".complete", [], folder=descriptor, mode=0o644, op="stage.complete")
    disk.sync_tree(into, op="stage.sync")
    return Unpacked(len(arrived), len(rest))


def check_room(folder: Path, *, size: int, files: int) -> None:
    """Check that `size` bytes in `files` files fit into the filesystem of `folder`. Blocking.

    Raises: Refused(disk_full), Failed(disk_error).
    """
    with explained("measure the free space of", folder):
        state = os.statvfs(folder)
    free = state.f_bavail * state.f_frsize
    for needed, there, unit in (
        (size + RESERVE, free, "bytes"),
        (files, state.f_favail if state.f_files else files, "inodes"),
    ):
        if needed > there:
            raise Refused(
                Code.DISK_FULL,
                "The release would not fit on the disk",
                why=f"it needs {needed:,} {unit} in {folder.parent}, where {there:,} are free",
                hint="Make room there, or lower keep_releases, and send again",
            )


def _revision(into: Path, version: str) -> bytes:
    """The content of `REVISION`: the version, and the commit that the stored manifest names."""
    try:
        source = Manifest.from_bytes((metadata_folder(into) / MANIFEST_NAME).read_bytes()).source
    except (OSError, WireError):
        source = None  # the version is what a release cannot do without
    return revision(version, source).encode()


def _read_index(into: Path, limits: Limits) -> tuple[dict[str, File], list[Link], list[str]]:
    """The stored index: files, links, and the paths of empty folders.

    It is checked once more: a file on a disk could have been changed.
    """
    files: dict[str, File] = {}
    links: list[Link] = []
    empty: list[str] = []
    try:
        path = metadata_folder(into) / INDEX_NAME
        with explained("read", path), open(path, "rb") as lines:
            for entry in read_index(lines, limits=limits):
                if isinstance(entry, Link):
                    links.append(entry)
                elif isinstance(entry, Directory):
                    empty.append(entry.path)
                else:
                    files[entry.path] = entry
    except LimitError as error:
        raise Refused(Code.LIMIT_EXCEEDED, "The bundle is larger than this host allows", why=str(error)) from error
    except WireError as error:
        raise malformed_bundle(str(error)) from error
    return files, links, empty


def _folders(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        above = path.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found


def _write_arriving(bundle: Bundle, files: dict[str, File], folders: Folders, disk: Disk) -> set[str]:
    """Write the files of the bundle, each as the index lists it. Returns their paths."""
    arrived: set[str] = set()
    for path, size, content in bundle.files():
        file = files.get(path)
        if file is None:
            raise malformed_bundle(f"it contains {path[:200]!r}, which its index does not list as a file")
        if path in arrived:
            raise malformed_bundle(f"it contains {path[:200]!r} twice")
        if size != file.size:
            raise _mismatch(path, f"it has {size} bytes; {file.size} were signed")
        descriptor, name = folders.of(path)
        got = disk.create(name, content, folder=descriptor, mode=file.mode, op="stage.file")
        if got != (file.size, file.sha256):
            raise _mismatch(path, "its SHA-256 is not the one that was signed")
        arrived.add(path)
    return arrived


def _mismatch(path: str, why: str) -> Refused:
    return Refused(
        Code.CONTENT_MISMATCH,
        f"The file {path} is not the one that was signed",
        why=why,
        hint="Send the bundle again; if that does not help, pack and sign it again",
    )


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where content can be copied from: releases on disk, then a file of the same content that arrived."""

    content: Content
    here: dict[str, str]

    def __contains__(self, digest: str) -> bool:
        return digest in self.content or digest in self.here

    def of(self, digest: str) -> Iterator[str]:
        yield from self.content.copies(digest)
        if digest in self.here:
            yield self.here[digest]


def _copy_all(rest: list[File], sources: _Sources, folders: Folders, disk: Disk) -> None:
    """Copy what did not travel. In one thread: two that share the interpreter took half as long again."""
    _check_complete([file for file in rest if file.sha256 not in sources])
    _check_complete([file for file in rest if not _copy(file, sources, folders, disk)])


def _copy(file: File, sources: _Sources, folders: Folders, disk: Disk) -> bool:
    """Copy one file from the first place that still has its content. False if none has."""
    folder, name = folders.of(file.path)
    for source in sources.of(file.sha256):
        try:
            with opened(source) as descriptor:
                if os.fstat(descriptor).st_size != file.size:
                    continue
                got = disk.copy(name, descriptor, folder=folder, mode=file.mode, op="stage.copy")
        except OSError:
            continue  # it has gone, or is no file any more
        except Failed as problem:
            if problem.code is not Code.RELEASE_DAMAGED:
                raise
            got = None
        if got == (file.size, file.sha256):
            return True
        disk.unlink(name, folder=folder, op="stage.unlink")
    return False


def _check_complete(lacking: list[File]) -> None:
    if lacking:
        first = min(lacking)
        raise Refused(
            Code.BUNDLE_INCOMPLETE,
            "The bundle leaves out files that this host does not have",
            why=f"{len(lacking)} of them; the first is {first.path}",
            hint="Send the whole bundle",
        )
