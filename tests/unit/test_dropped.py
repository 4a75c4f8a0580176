"""Drops as bundles: what is there, what is missing, and going on where a check stopped."""

import asyncio
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from agent.core.drop import Awaited, awaited
from agent.deploy.admission import VerifiedManifest
from agent.deploy.deployer import Send
from agent.doors.drop.drop import Drop
from agent.doors.ports import App
from agent.host.drop.directory import Chain, Missing, OpenDirectory, Stamp, unreadable
from agent.host.drop.dropped import index_holds
from agent.host.drop.dropped_file import DroppedFile
from agent.host.drop.dropped_folder import DroppedFolder
from agent.host.ports import Bundle
from agent.host.storage.disk import Disk
from pusher.bundle.archive import write_bundle
from pusher.bundle.manifest import make_manifest
from pusher.bundle.signed_manifest import SignedManifest
from pusher.bundle.tree import Tree, read_tree
from pusher.wire import Code, Entry, Manifest, Refused, parse_index_line
from tests.dropping import Load

FILES = {"a": b"1", "b/c": b"22", "b/d": b"333", "z/y/x": b"4444"}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[OpenDirectory]:
    (tmp_path / "drop").mkdir()
    one = OpenDirectory(tmp_path / "drop", Disk())
    yield one
    one.close()


@pytest.fixture
def one(tmp_path: Path) -> Load:
    for name, content in FILES.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(content)
    (tmp_path / "source/link").symlink_to("b/c")
    tree = read_tree(tmp_path / "source")
    manifest = make_manifest(tree, app="flask-demo", version="v1", created=1, expires=2)
    return Load(tree.folder, manifest.to_bytes(), b"signature", tree.index)


def entries(load: Load) -> list[Entry]:
    return [parse_index_line(line) for line in load.index.splitlines(keepends=True)]


def missing(folder: DroppedFolder, load: Load) -> str:
    try:
        folder.open().check(folder.bundle(), entries(load))
    except Missing as problem:
        return problem.what
    return ""


def drop(directory: OpenDirectory, name: str, content: bytes) -> Path:
    path = directory.path / "tree" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_folder_says_what_is_missing_first_by_size_then_by_content(directory: OpenDirectory, one: Load) -> None:
    folder = DroppedFolder(directory)
    with pytest.raises(Missing, match=r"tree\.manifest\.json, which is not there"):
        folder.bundle().signed_manifest()
    one.put_manifest(directory.path)
    assert missing(folder, one) == "tree/a, which is not there"
    drop(directory, "a", b"x")  # of the right size
    assert missing(folder, one) == "tree/b/c, which is not there"
    drop(directory, "b/c", b"2")
    assert missing(folder, one) == "tree/b/c of 2 bytes (there are 1)"
    drop(directory, "b/c", b"22")
    drop(directory, "b/d", b"333")
    assert missing(folder, one) == "the symbolic link tree/link -> b/c"
    (directory.path / "tree/link").symlink_to("b/d")
    assert missing(folder, one) == "the symbolic link tree/link -> b/c"
    (directory.path / "tree/link").unlink()
    (directory.path / "tree/link").symlink_to("b/c")
    drop(directory, "z/y/x", b"4444")
    assert missing(folder, one) == "tree/a as it was signed (its content differs)"
    drop(directory, "a", b"1")
    assert missing(folder, one) == ""
    assert {path: b"".join(content) for path, _, content in _read(folder, one).files()} == FILES


def test_a_file_that_was_checked_is_not_checked_again_before_forget(directory: OpenDirectory, one: Load) -> None:
    folder = DroppedFolder(directory)
    one.put_manifest(directory.path)
    for name in ("a", "b/c"):
        drop(directory, name, FILES[name])
    assert missing(folder, one) == "tree/b/d, which is not there"
    drop(directory, "a", b"too long by now")
    assert missing(folder, one) == "tree/b/d, which is not there"
    folder.forget()
    assert missing(folder, one) == "tree/a of 1 bytes (there are 15)"


def test_a_manifest_and_an_index_that_do_not_belong_together_are_missing(
    directory: OpenDirectory, one: Load
) -> None:
    folder, manifest = DroppedFolder(directory), Manifest.from_bytes(one.manifest)
    one.put_manifest(directory.path)
    assert index_holds(folder.bundle(), manifest)
    (directory.path / "tree.index.jsonl").write_bytes(one.index[:-1] + b" ")
    assert not index_holds(folder.bundle(), manifest)
    (directory.path / "tree.index.jsonl").write_bytes(b"")
    assert not index_holds(folder.bundle(), manifest)
    with pytest.raises(Missing, match="there are 0"):
        list(folder.bundle().index(5))
    (directory.path / "tree.manifest.json").write_bytes(b"x" * 70_000)
    with pytest.raises(Missing, match="at most 65536 bytes"):
        folder.bundle().signed_manifest()


def test_an_index_that_changes_during_the_check_is_missing_and_no_path_of_it_is_opened(
    directory: OpenDirectory, one: Load
) -> None:
    folder = DroppedFolder(directory)
    one.put_manifest(directory.path)
    for name, content in FILES.items():
        drop(directory, name, content)
    for line in (b"{}\n", b'{"path":"../x","target":"y"}\n', b"x" * 100_000):
        folder.forget()
        (directory.path / "tree.index.jsonl").write_bytes(line)
        assert "the tree.index.jsonl that tree.manifest.json names" in missing(folder, one)
    (directory.path / "tree.index.jsonl").unlink()
    assert missing(folder, one) == "tree.index.jsonl, which is not there"


def test_a_file_that_changes_between_check_and_copy_is_not_the_one_that_was_signed(
    directory: OpenDirectory, one: Load
) -> None:
    folder = DroppedFolder(directory)
    one.put_manifest(directory.path)
    for name, content in FILES.items():
        drop(directory, name, content)
    reading = _read(folder, one)
    (directory.path / "tree/b/c").unlink()
    with pytest.raises(Refused, match="The file b/c is not the one that was signed"):
        [b"".join(content) for _, _, content in reading.files()]


def test_a_bundle_file_is_read_to_its_end_as_often_as_is_wanted(directory: OpenDirectory, one: Load) -> None:
    tree = read_tree(one.folder)
    raw = b"".join(write_bundle(SignedManifest(one.manifest, one.signature, one.index), tree.contents()))
    dropped = DroppedFile(directory, "x.tar.zst")
    assert dropped.stamps() == (None,)
    with pytest.raises(Missing):
        dropped.open()
    (directory.path / "x.tar.zst").write_bytes(raw)
    for _ in range(2):
        _check(dropped, one)
    (directory.path / "x.tar.zst").write_bytes(raw[:-1])
    with pytest.raises(Refused, match="ends early"):
        _check(dropped, one)
    other = write_bundle(SignedManifest(one.manifest, one.signature, one.index), _others(tree))
    (directory.path / "x.tar.zst").write_bytes(b"".join(other))
    with pytest.raises(Refused, match="The file a is not the one"):
        _check(dropped, one)
    less = Load(one.folder, one.manifest, one.signature, one.index.split(b"\n", 1)[1])
    (directory.path / "x.tar.zst").write_bytes(raw)
    with pytest.raises(Refused, match="not what its index lists"):
        _check(dropped, less)


def test_a_bundle_file_that_was_checked_is_not_read_again_before_it_changes_or_forget(
    directory: OpenDirectory, one: Load
) -> None:
    tree, path = read_tree(one.folder), directory.path / "x.tar.zst"
    path.write_bytes(
        b"".join(write_bundle(SignedManifest(one.manifest, one.signature, one.index), tree.contents()))
    )
    less = Load(one.folder, one.manifest, one.signature, one.index.split(b"\n", 1)[1])
    dropped = DroppedFile(directory, path.name)
    for change in (lambda: os.utime(path), dropped.forget):
        _check(dropped, one)
        _check(dropped, less)
        change()
        with pytest.raises(Refused, match="not what its index lists"):
            _check(dropped, less)


def test_a_file_that_cannot_be_read_waits_for_this_host_and_not_for_an_arrival() -> None:
    for number in (errno.EIO, errno.EMFILE):
        assert awaited(unreadable("tree/a", OSError(number, os.strerror(number)))) is Awaited.HOST
    for number in (errno.ENOENT, errno.EACCES, errno.ELOOP):
        assert awaited(unreadable("tree/a", OSError(number, os.strerror(number)))) is Awaited.ARRIVAL


async def test_a_file_that_changed_just_before_a_check_is_checked_again_though_its_stamp_is_the_same(
    directory: OpenDirectory,
) -> None:
    path = directory.path / "x.tar.zst"
    path.write_bytes(b"")
    dropped = DroppedFile(directory, path.name)
    stamps = await asyncio.to_thread(dropped.stamps)
    assert stamps[0] is not None
    changed = stamps[0].changed // 1_000_000
    checked = Drop(dropped, cast("App", None), before={})  # it is asked only about what was read
    await checked.check(stamps, now=changed)
    assert "the rest of x.tar.zst" in checked.result.waiting_for
    path.unlink()
    os.mkfifo(path)
    await checked.check(stamps, now=changed + 1000)
    assert "there is a fifo" in (said := checked.result.waiting_for)
    path.unlink()
    await checked.check(stamps, now=changed + 2000)
    assert checked.result.waiting_for == said


class Asked:
    """An app of which nothing was deployed yet, and its parts. `begun` is what it was asked to deploy: manifest,
    signature and index."""

    def __init__(self) -> None:
        self.begun: list[tuple[bytes, bytes, bytes]] = []

    @property
    def deployer(self) -> "Asked":
        return self

    status = admission = deployer

    async def of_manifest(self, manifest: str) -> None:
        return None

    async def check(self, verified: VerifiedManifest, *, retry: bool) -> None: ...

    async def receive(self, bundle: Bundle) -> VerifiedManifest:
        raw, signature = await asyncio.to_thread(bundle.signed_manifest)
        return VerifiedManifest(
            Manifest.from_bytes(raw), raw, signature, "", signer="tester", receive_ms=0, verify_ms=0
        )

    def entries(self, verified: VerifiedManifest, bundle: Bundle) -> Iterator[Entry]:
        return (parse_index_line(line) for line in bundle.index(verified.manifest.index_size))

    async def submit(self, request: Send) -> None:
        assert request.verified is not None
        size = request.verified.manifest.index_size
        index = await asyncio.to_thread(lambda: b"".join(request.bundle.index(size)))
        self.begun.append((request.verified.raw, request.verified.signature, index))
        raise Refused(Code.DISK_FULL, "The release would not fit on the disk")


@pytest.mark.parametrize("name", ["tree.manifest.json", "tree.manifest.json.sig"])
async def test_the_manifest_that_was_verified_is_deployed_whatever_is_there_by_now(
    directory: OpenDirectory, one: Load, name: str
) -> None:
    def arrive() -> tuple[Stamp | None, ...]:
        one.put_manifest(directory.path)
        for path, content in FILES.items():
            drop(directory, path, content)
        (directory.path / "tree/link").symlink_to("b/c")
        return DroppedFolder(directory).stamps()

    stamps = await asyncio.to_thread(arrive)
    asked = Asked()
    checked = Drop(DroppedFolder(directory), cast("App", asked), before={})
    await checked.check(stamps, now=0)
    assert checked.ready
    await asyncio.to_thread((directory.path / name).write_bytes, b"another")
    await checked.begin()
    assert checked.result.awaited is Awaited.HOST
    assert asked.begun == [(one.manifest, one.signature, one.index)]


def test_a_changed_file_has_another_stamp_and_is_not_removed(directory: OpenDirectory) -> None:
    path = directory.path / "x.tar.zst"
    path.write_bytes(b"1")
    before = directory.stamp("x.tar.zst")
    path.write_bytes(b"22")
    directory.remove("x.tar.zst", only=before)
    assert path.exists()
    directory.remove("x.tar.zst", only=directory.stamp("x.tar.zst"))
    assert not path.exists()


def test_a_chain_goes_from_folder_to_folder_and_through_no_link(directory: OpenDirectory) -> None:
    for name in ("a/b/c", "a/d"):
        (directory.path / name).mkdir(parents=True)
    (directory.path / "a/link").symlink_to("b")
    with Chain(directory.descriptor) as chain:
        for name in ("a/b/c", "a/b", "a/d", "", "a"):
            here = os.fstat(chain.folder(name))
            assert here.st_ino == (directory.path / name).stat().st_ino
        with pytest.raises(NotADirectoryError):
            chain.folder("a/link/c")
        assert len(chain.folders("a/b/nothing/x")) == 3


def _read(folder: DroppedFolder, load: Load):  # type: ignore[no-untyped-def]
    reading = folder.bundle()
    assert hashlib.sha256(b"".join(reading.index(len(load.index)))).digest() == hashlib.sha256(load.index).digest()
    return reading


def _check(dropped: DroppedFile, load: Load) -> None:
    opened = dropped.open()
    try:
        reading = opened.bundle()
        reading.signed_manifest()
        for _ in reading.index(len(one_index(load))):
            pass
        opened.check(reading, entries(load))
    finally:
        opened.close()


def one_index(load: Load) -> bytes:
    """The index as it is in the bundle: that of the whole tree."""
    return read_tree(load.folder).index


def _others(tree: Tree):  # type: ignore[no-untyped-def]
    for file, content in tree.contents():
        yield file, (bytes(len(piece)) for piece in content)
