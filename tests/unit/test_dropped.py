"""A drop directory as bundles: what is there, what is lacking, and going on where one stopped."""

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
from agent.doors.drop.upload import Landing
from agent.doors.ports import App
from agent.host.drop.dropped_file import DroppedFile
from agent.host.drop.dropped_folder import DroppedFolder
from agent.host.drop.folder import Chain, Dropbox, Lacking, Stamp, lacking
from agent.host.drop.upload import index_holds
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
def box(tmp_path: Path) -> Iterator[Dropbox]:
    (tmp_path / "drop").mkdir()
    one = Dropbox(tmp_path / "drop", Disk())
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


def lacks(folder: DroppedFolder, load: Load) -> str:
    try:
        folder.open().check(folder.bundle(), entries(load))
    except Lacking as problem:
        return problem.what
    return ""


def land(box: Dropbox, name: str, content: bytes) -> Path:
    path = box.path / "tree" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_folder_says_what_it_lacks_first_by_size_then_by_content(box: Dropbox, one: Load) -> None:
    folder = DroppedFolder(box)
    with pytest.raises(Lacking, match=r"tree\.manifest\.json, which is not there"):
        folder.bundle().signed_manifest()
    one.put_manifest(box.path)
    assert lacks(folder, one) == "tree/a, which is not there"
    land(box, "a", b"x")  # of the right size
    assert lacks(folder, one) == "tree/b/c, which is not there"
    land(box, "b/c", b"2")
    assert lacks(folder, one) == "tree/b/c of 2 bytes (there are 1)"
    land(box, "b/c", b"22")
    land(box, "b/d", b"333")
    assert lacks(folder, one) == "the symbolic link tree/link -> b/c"
    (box.path / "tree/link").symlink_to("b/d")
    assert lacks(folder, one) == "the symbolic link tree/link -> b/c"
    (box.path / "tree/link").unlink()
    (box.path / "tree/link").symlink_to("b/c")
    land(box, "z/y/x", b"4444")
    assert lacks(folder, one) == "tree/a as it was signed (its content is another)"
    land(box, "a", b"1")
    assert lacks(folder, one) == ""
    assert {path: b"".join(content) for path, _, content in _read(folder, one).files()} == FILES


def test_what_was_found_well_is_not_looked_at_again_until_it_is_to_be_forgotten(box: Dropbox, one: Load) -> None:
    folder = DroppedFolder(box)
    one.put_manifest(box.path)
    for name in ("a", "b/c"):
        land(box, name, FILES[name])
    assert lacks(folder, one) == "tree/b/d, which is not there"
    land(box, "a", b"too long by now")
    assert lacks(folder, one) == "tree/b/d, which is not there"
    folder.forget()
    assert lacks(folder, one) == "tree/a of 1 bytes (there are 15)"


def test_papers_and_index_that_do_not_belong_together_are_lacking(box: Dropbox, one: Load) -> None:
    folder, manifest = DroppedFolder(box), Manifest.from_bytes(one.manifest)
    one.put_manifest(box.path)
    assert index_holds(folder.bundle(), manifest)
    (box.path / "tree.index.jsonl").write_bytes(one.index[:-1] + b" ")
    assert not index_holds(folder.bundle(), manifest)
    (box.path / "tree.index.jsonl").write_bytes(b"")
    assert not index_holds(folder.bundle(), manifest)
    with pytest.raises(Lacking, match="there are 0"):
        list(folder.bundle().index(5))
    (box.path / "tree.manifest.json").write_bytes(b"x" * 70_000)
    with pytest.raises(Lacking, match="at most 65536 bytes"):
        folder.bundle().signed_manifest()


def test_an_index_that_changes_under_the_look_is_lacking_and_leads_nowhere(box: Dropbox, one: Load) -> None:
    folder = DroppedFolder(box)
    one.put_manifest(box.path)
    for name, content in FILES.items():
        land(box, name, content)
    for line in (b"{}\n", b'{"path":"../x","target":"y"}\n', b"x" * 100_000):
        folder.forget()
        (box.path / "tree.index.jsonl").write_bytes(line)
        assert "the tree.index.jsonl that tree.manifest.json names" in lacks(folder, one)
    (box.path / "tree.index.jsonl").unlink()
    assert lacks(folder, one) == "tree.index.jsonl, which is not there"


def test_what_changes_between_look_and_copy_is_no_longer_what_was_signed(box: Dropbox, one: Load) -> None:
    folder = DroppedFolder(box)
    one.put_manifest(box.path)
    for name, content in FILES.items():
        land(box, name, content)
    reading = _read(folder, one)
    (box.path / "tree/b/c").unlink()
    with pytest.raises(Refused, match="The file b/c is not the one that was signed"):
        [b"".join(content) for _, _, content in reading.files()]


def test_a_bundles_file_is_read_to_its_end_as_often_as_is_wanted(box: Dropbox, one: Load) -> None:
    tree = read_tree(one.folder)
    raw = b"".join(write_bundle(SignedManifest(one.manifest, one.signature, one.index), tree.contents()))
    dropped = DroppedFile(box, "x.tar.zst")
    assert dropped.stamps() == (None,)
    with pytest.raises(Lacking):
        dropped.open()
    (box.path / "x.tar.zst").write_bytes(raw)
    for _ in range(2):
        _check(dropped, one)
    (box.path / "x.tar.zst").write_bytes(raw[:-1])
    with pytest.raises(Refused, match="ends early"):
        _check(dropped, one)
    other = write_bundle(SignedManifest(one.manifest, one.signature, one.index), _others(tree))
    (box.path / "x.tar.zst").write_bytes(b"".join(other))
    with pytest.raises(Refused, match="The file a is not the one"):
        _check(dropped, one)
    less = Load(one.folder, one.manifest, one.signature, one.index.split(b"\n", 1)[1])
    (box.path / "x.tar.zst").write_bytes(raw)
    with pytest.raises(Refused, match="not what its index lists"):
        _check(dropped, less)


def test_a_bundles_file_that_was_found_well_is_not_read_again_until_it_changes_or_is_to_be_forgotten(
    box: Dropbox, one: Load
) -> None:
    tree, path = read_tree(one.folder), box.path / "x.tar.zst"
    path.write_bytes(
        b"".join(write_bundle(SignedManifest(one.manifest, one.signature, one.index), tree.contents()))
    )
    less = Load(one.folder, one.manifest, one.signature, one.index.split(b"\n", 1)[1])
    dropped = DroppedFile(box, path.name)
    for again in (lambda: os.utime(path), dropped.forget):
        _check(dropped, one)
        _check(dropped, less)
        again()
        with pytest.raises(Refused, match="not what its index lists"):
            _check(dropped, less)


def test_what_cannot_be_read_is_this_hosts_trouble_and_waits_for_nothing_to_arrive() -> None:
    for number in (errno.EIO, errno.EMFILE):
        assert awaited(lacking("tree/a", OSError(number, os.strerror(number)))) is Awaited.HOST
    for number in (errno.ENOENT, errno.EACCES, errno.ELOOP):
        assert awaited(lacking("tree/a", OSError(number, os.strerror(number)))) is Awaited.ARRIVAL


async def test_what_changed_just_before_a_look_is_looked_at_again_though_its_stamp_is_the_same(
    box: Dropbox,
) -> None:
    path = box.path / "x.tar.zst"
    path.write_bytes(b"")
    dropped = DroppedFile(box, path.name)
    stamps = await asyncio.to_thread(dropped.stamps)
    assert stamps[0] is not None
    changed = stamps[0].changed // 1_000_000
    landing = Landing(dropped, cast("App", None), before={})  # nothing of it is good enough to be asked about
    await landing.look(stamps, now=changed)
    assert "the rest of x.tar.zst" in landing.result.waiting_for
    path.unlink()
    os.mkfifo(path)
    await landing.look(stamps, now=changed + 1000)
    assert "there is a fifo" in (said := landing.result.waiting_for)
    path.unlink()
    await landing.look(stamps, now=changed + 2000)
    assert landing.result.waiting_for == said


class Asked:
    """An app of which nothing was deployed yet, and its parts; `begun` is what it was asked to deploy: manifest,
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
async def test_what_is_deployed_is_the_manifest_that_was_verified_whatever_stands_there_by_now(
    box: Dropbox, one: Load, name: str
) -> None:
    def arrive() -> tuple[Stamp | None, ...]:
        one.put_manifest(box.path)
        for path, content in FILES.items():
            land(box, path, content)
        (box.path / "tree/link").symlink_to("b/c")
        return DroppedFolder(box).stamps()

    stamps = await asyncio.to_thread(arrive)
    asked = Asked()
    landing = Landing(DroppedFolder(box), cast("App", asked), before={})
    await landing.look(stamps, now=0)
    assert landing.ready
    await asyncio.to_thread((box.path / name).write_bytes, b"another")
    await landing.begin()
    assert landing.result.awaited is Awaited.HOST
    assert asked.begun == [(one.manifest, one.signature, one.index)]


def test_a_stamp_tells_of_a_change_and_only_what_was_looked_at_is_removed(box: Dropbox) -> None:
    path = box.path / "x.tar.zst"
    path.write_bytes(b"1")
    before = box.stamp("x.tar.zst")
    path.write_bytes(b"22")
    box.remove("x.tar.zst", only=before)
    assert path.exists()
    box.remove("x.tar.zst", only=box.stamp("x.tar.zst"))
    assert not path.exists()


def test_a_chain_goes_from_folder_to_folder_and_through_no_link(box: Dropbox) -> None:
    for name in ("a/b/c", "a/d"):
        (box.path / name).mkdir(parents=True)
    (box.path / "a/link").symlink_to("b")
    with Chain(box.folder) as chain:
        for name in ("a/b/c", "a/b", "a/d", "", "a"):
            here = os.fstat(chain.folder(name))
            assert here.st_ino == (box.path / name).stat().st_ino
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
