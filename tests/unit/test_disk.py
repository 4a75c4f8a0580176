"""The disk does what it says, says what it could not do, and can be stopped at each operation by name."""

import ctypes
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.host.storage.disk import FSYNC_FILES_MOST, Disk
from agent.host.storage.errors import path_of
from pusher.wire import Code, Failed


class Noting(Disk):
    """Notes every operation, and fails at the one it is told to."""

    def __init__(self, fail_at: str = "") -> None:
        super().__init__()
        self.noted: list[str] = []
        self.fail_at = fail_at

    def _at(self, op: str) -> None:
        self.noted.append(op)
        if op == self.fail_at:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def disk() -> Noting:
    return Noting()


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are flushed by fsync; nothing else can tell."""
    paths: list[str] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        paths.append(path_of(descriptor))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    return paths


def test_a_folder_may_exist_unless_it_must_not(disk: Noting, tmp_path: Path) -> None:
    disk.make_folder(tmp_path / "a", op="x")
    disk.make_folder(tmp_path / "a", op="x")
    with pytest.raises(Failed, match=r"Could not make the folder .*/a: File exists"):
        disk.make_folder(tmp_path / "a", op="x", exist_ok=False)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("a")
    for other in ("file", "link"):
        with pytest.raises(Failed, match="File exists"):
            disk.make_folder(tmp_path / other, op="x")
    with pytest.raises(Failed, match="No such file"):
        disk.make_folder(tmp_path / "no/b", op="x")


def test_missing_folders_are_made_from_the_top(disk: Noting, tmp_path: Path) -> None:
    disk.make_folders(tmp_path / "a/b/c", op="x")
    disk.make_folders(tmp_path / "a/b/c", op="x")
    assert (tmp_path / "a/b/c").is_dir()
    assert disk.noted == ["x"] * 4


def test_modes_are_exact_if_given_and_else_those_of_the_umask(disk: Noting, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        disk.make_folder(tmp_path / "umask", op="x")
        disk.make_folder(tmp_path / "exact", mode=0o755, op="x")
        disk.create(tmp_path / "file", [], mode=0o755, op="x")
        disk.write(tmp_path / "small", b"", mode=0o666, op="x")
    finally:
        os.umask(before)
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.iterdir()}
    assert modes == {"umask": "0o750", "exact": "0o755", "file": "0o755", "small": "0o666"}


def test_a_file_is_hashed_as_it_is_written(disk: Noting, tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        got = disk.create("name", iter([b"ab", b"", b"c"]), folder=folder, mode=0o644, op="x")
    finally:
        os.close(folder)
    assert got == (3, hashlib.sha256(b"abc").hexdigest())
    assert (tmp_path / "name").read_bytes() == b"abc"


def test_a_file_that_is_there_is_never_written_over_or_through(disk: Noting, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("there", "link", "dangling"):
        with pytest.raises(Failed, match="File exists"):
            disk.create(tmp_path / name, [b"x"], mode=0o644, op="x")
        with pytest.raises(Failed, match="File exists"):
            disk.write(tmp_path / name, b"x", op="x")
        with pytest.raises(Failed, match="File exists"):
            disk.link(tmp_path / name, "x", op="x")
    assert (tmp_path / "there").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_an_error_of_the_content_passes_through(disk: Noting, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        disk.create(tmp_path / "file", broken(), mode=0o644, op="x")


def test_a_copy_is_whole_and_shares_no_inode(disk: Noting, tmp_path: Path) -> None:
    content = os.urandom(3 * 1024 * 1024 + 5)
    for name, body in (("large", content), ("empty", b""), ("slice", content[: 1024 * 1024])):
        (tmp_path / name).write_bytes(body)
        with open(tmp_path / name, "rb") as source:
            source.seek(1)
            got = disk.copy(tmp_path / f"{name}-copy", source.fileno(), mode=0o755, op="x")
        assert got == (len(body), hashlib.sha256(body).hexdigest())
        assert (tmp_path / f"{name}-copy").read_bytes() == body
        assert (tmp_path / name).stat().st_nlink == 1


@pytest.mark.parametrize("works", [True, False])
def test_a_reflink_is_hashed_from_what_it_shares(
    disk: Noting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    asked = 0

    def ficlone(descriptor: int, request: int, source: int) -> int:
        nonlocal asked
        asked += 1
        assert request == 0x40049409
        if not works:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        os.write(descriptor, os.pread(source, 100, 0))  # as a filesystem with reflinks would, in effect
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ficlone)  # the filesystem of the tests may have no reflinks
    (tmp_path / "a").write_bytes(b"content")
    for number in range(2):
        with open(tmp_path / "a", "rb") as source:
            got = disk.copy(tmp_path / f"b{number}", source.fileno(), mode=0o644, op="x")
        assert got == (7, hashlib.sha256(b"content").hexdigest())
        assert (tmp_path / f"b{number}").read_bytes() == b"content"
    assert asked == (2 if works else 1)


def test_a_reflink_that_meets_a_full_disk_is_a_full_disk(
    disk: Noting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ficlone(*_: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fcntl, "ioctl", ficlone)
    with pytest.raises(Failed) as caught, open(__file__, "rb") as source:
        disk.copy(tmp_path / "b", source.fileno(), mode=0o644, op="x")
    assert caught.value.code is Code.DISK_FULL


def test_a_short_write_is_continued(disk: Noting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, bytes(content[:3])))
    disk.create(tmp_path / "file", [b"abcdefgh"], mode=0o644, op="x")
    assert (tmp_path / "file").read_bytes() == b"abcdefgh"


def test_a_replaced_file_is_the_old_one_until_it_is_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "state"
    Disk().write(path, b"old", op="state")
    for fail_at in ("state", "state.flush", "state.rename"):
        with pytest.raises(Failed, match="No space left"):
            Noting(fail_at).write(path, b"new", op="state", replace=True)
        assert path.read_bytes() == b"old"
    Disk().write(path, b"new", op="state", replace=True, mode=0o600)
    assert path.read_bytes() == b"new"
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


def test_a_flipped_link_is_the_old_one_until_it_is_the_new_one(tmp_path: Path) -> None:
    link = tmp_path / "current"
    Disk().flip(link, "one", op="switch")
    for fail_at in ("switch", "switch.rename"):
        with pytest.raises(Failed):
            Noting(fail_at).flip(link, "two", op="switch")
        assert os.readlink(link) == "one"
    noting = Noting()
    noting.flip(link, "two", op="switch")
    assert os.readlink(link) == "two"
    assert noting.noted == ["switch", "switch.rename", "switch.sync"]
    assert [one.name for one in tmp_path.iterdir()] == ["current"]


def test_writing_and_flipping_flush_the_name_as_well(disk: Noting, tmp_path: Path, flushed: list[str]) -> None:
    disk.write(tmp_path / "state", b"x", op="x", replace=True)
    assert flushed == [str(tmp_path / ".state.new"), str(tmp_path)]
    flushed.clear()
    disk.flip(tmp_path / "link", "x", op="x")
    disk.unlink(tmp_path / "link", op="x")
    assert flushed == [str(tmp_path)] * 2


def test_a_rename_replaces_nothing(disk: Noting, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    for there in ("b", "dangling"):
        with pytest.raises(Failed, match=r"Could not move .*/a to .*: File exists"):
            disk.rename(tmp_path / "a", tmp_path / there, op="x")
    disk.rename(tmp_path / "a", tmp_path / "ü", op="x")
    assert (tmp_path / "ü").is_dir()
    with pytest.raises(Failed, match="No such file"):
        disk.rename(tmp_path / "a", tmp_path / "c", op="x")


def test_a_rename_replaces_nothing_even_where_the_filesystem_cannot_promise_it(
    tmp_path: Path,
) -> None:
    class Old:
        """The C library, on a filesystem that knows no flags of renameat2(2)."""

        def renameat2(self, *_: object) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

        def syncfs(self, _: int) -> int:
            raise AssertionError("nothing is flushed here")

    disk = Disk(libc=Old())
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()  # empty: a plain rename would replace it
    with pytest.raises(Failed, match=r"Could not move .*/a to .*/b: File exists"):
        disk.rename(tmp_path / "a", tmp_path / "b", op="x")
    disk.rename(tmp_path / "a", tmp_path / "c", op="x")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "b", tmp_path / "c"]
    with pytest.raises(Failed, match="Invalid argument"):
        disk.rename(tmp_path / "c", tmp_path / "c/d", op="x")


def _tree(top: Path, files: int) -> Path:
    (top / "a/b").mkdir(parents=True)
    (top / "link").symlink_to("nowhere")
    (top / "a/folder-link").symlink_to("b")
    os.mkfifo(top / "a/fifo")
    for number in range(files):
        (top / f"a/b/{number}").touch()
    return top


def test_a_small_tree_is_flushed_file_by_file_and_folders_after_what_they_hold(
    disk: Noting, tmp_path: Path, flushed: list[str]
) -> None:
    disk.sync_tree(_tree(tmp_path / "tree", 3), op="x")
    top = str(tmp_path / "tree")
    assert sorted(flushed[:3]) == [f"{top}/a/b/{number}" for number in range(3)]
    assert flushed[3:] == [f"{top}/a/b", f"{top}/a", top]


def test_a_large_tree_is_flushed_with_its_filesystem(tmp_path: Path, flushed: list[str]) -> None:
    asked: list[str] = []
    result = 0

    class Libc:
        """The C library; a real `syncfs` would wait for the data of everybody."""

        def renameat2(self, *_: object) -> int:
            raise AssertionError("nothing is renamed here")

        def syncfs(self, descriptor: int) -> int:
            asked.append(path_of(descriptor))
            ctypes.set_errno(errno.EIO)
            return result

    disk = Disk(libc=Libc())
    disk.sync_tree(_tree(tmp_path / "tree", FSYNC_FILES_MOST), op="x")
    assert asked == [str(tmp_path / "tree")]
    assert flushed == []
    result = -1
    with pytest.raises(Failed, match=r"Could not flush .*/tree: Input/output error. The disk itself"):
        disk.sync_tree(tmp_path / "tree", op="x")
    assert len(asked) == 2, "a flush that failed is not tried again"


def test_a_flush_that_fails_is_not_tried_again(
    disk: Noting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def failing(descriptor: int) -> None:
        nonlocal tries
        tries += 1
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(Failed) as caught:
        disk.sync_folder(tmp_path, op="x")
    assert tries == 1
    assert caught.value.code is Code.DISK_ERROR
    with pytest.raises(Failed):
        disk.write(tmp_path / "state", b"new", op="x", replace=True)
    assert not (tmp_path / "state").exists()


def test_a_folder_that_cannot_be_opened_and_flushed_is_an_error(disk: Noting, as_nobody: Path) -> None:
    (as_nobody / "tree/closed").mkdir(parents=True)
    (as_nobody / "tree/closed").chmod(0)
    with pytest.raises(Failed, match=r"Could not flush .*/tree: Permission denied"):
        disk.sync_tree(as_nobody / "tree", op="x")


def test_a_folder_that_may_not_be_entered_is_named(disk: Noting, as_nobody: Path) -> None:
    (as_nobody / "closed").mkdir(mode=0)
    with pytest.raises(Failed, match=r"Could not make the folder .*/closed/a/b: Permission denied"):
        disk.make_folders(as_nobody / "closed/a/b", op="x")


def test_unlinking_a_missing_file_does_nothing(disk: Noting, tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to("target")
    disk.unlink(tmp_path / "link", op="x")
    disk.unlink(tmp_path / "link", op="x")
    assert (tmp_path / "target").exists()
    with pytest.raises(Failed, match="Could not remove"):
        disk.unlink(tmp_path, op="x")


def test_removing_follows_no_link_and_can_be_repeated(disk: Noting, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").touch()
    tree, trash = tmp_path / "tree", tmp_path / "trash"
    for _ in range(2):
        _tree(tree, 2)
        (tree / "a/out").symlink_to(outside)
        (tree / "a/out-file").symlink_to(outside / "file")
        disk.remove(tree, trash=trash, op="x")
        disk.remove(tree, trash=trash, op="x")
        assert sorted(one.name for one in tmp_path.iterdir()) == ["outside"]
    assert sorted(one.name for one in outside.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("kind", ["file", "link", "folder link"])
def test_removing_works_for_files_and_links(disk: Noting, tmp_path: Path, kind: str) -> None:
    (tmp_path / "target").mkdir()
    path = tmp_path / "thing"
    if kind == "file":
        path.touch()
    else:
        path.symlink_to("target" if kind == "folder link" else "nowhere")
    disk.remove(path, trash=tmp_path / "trash", op="x")
    assert [one.name for one in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("fail_at", ["x", "x.sync", "x.discard"])
def test_a_removal_that_was_stopped_anywhere_is_finished_by_the_next(tmp_path: Path, fail_at: str) -> None:
    tree, trash = tmp_path / "tree", tmp_path / "trash"
    _tree(tree, 2)
    _tree(trash, 1)  # left by one before
    with suppress(Failed):
        Noting(fail_at).remove(tree, trash=trash, op="x")
    assert tree.exists() or trash.exists()
    assert not tree.exists() or sorted(os.listdir(tree)) == ["a", "link"], "never half deleted under its name"
    Disk().remove(tree, trash=trash, op="x")
    assert not list(tmp_path.iterdir())


def test_each_operation_is_announced_by_its_name_before_it_is_done(tmp_path: Path) -> None:
    changes = {
        "make_folder": lambda disk: disk.make_folder(tmp_path / "x", op="op"),
        "make_folders": lambda disk: disk.make_folders(tmp_path / "x/y", op="op"),
        "create": lambda disk: disk.create(tmp_path / "x", [], mode=0o644, op="op"),
        "copy": lambda disk: disk.copy(tmp_path / "x", 0, mode=0o644, op="op"),
        "write": lambda disk: disk.write(tmp_path / "x", b"", op="op"),
        "link": lambda disk: disk.link(tmp_path / "x", "y", op="op"),
        "flip": lambda disk: disk.flip(tmp_path / "x", "y", op="op"),
        "rename": lambda disk: disk.rename(tmp_path, tmp_path / "x", op="op"),
        "replace": lambda disk: disk.replace("x", "y", folder=0, op="op"),
        "sync_folder": lambda disk: disk.sync_folder(tmp_path, op="op"),
        "sync_tree": lambda disk: disk.sync_tree(tmp_path, op="op"),
        "place": lambda disk: disk.place(tmp_path, tmp_path / "x", op="op", mode=0o644),
        "unlink": lambda disk: disk.unlink(tmp_path / "x", op="op"),
        "discard": lambda disk: disk.discard(tmp_path, op="op"),
    }
    public = {name for name in vars(Disk) if not name.startswith("_")}
    assert public - set(changes) == {"remove"}
    for change in changes.values():
        noting = Noting("op")
        with pytest.raises(Failed, match="No space left"):
            change(noting)
        assert noting.noted == ["op"]
        assert not list(tmp_path.iterdir())
