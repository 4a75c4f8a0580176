"""Building a tree from files that arrived and files that are copied."""

import io
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.host.releases.unpack import RESERVE, check_room, unpack
from agent.host.storage.disk import Disk
from agent.host.storage.folders import Folders
from pusher.wire import Code, Failed, Limits, Refused
from tests.hostile import archives
from tests.hostile.archives import TREE, honest
from tests.hostile.receiving import Receiver, everything, expected

FILES = [path for path, what in TREE.items() if not isinstance(what, str)]


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path)


@pytest.fixture
def release(receiver: Receiver) -> Path:
    """A kept release with everything of TREE."""
    return _receive(receiver, honest(), "kept")


def _receive(receiver: Receiver, raw: bytes, name: str = "new", **how: object) -> Path:
    return receiver.receive(io.BytesIO(raw).read, name, **how)[0]  # type: ignore[arg-type]


def _content(tree: Path) -> dict[str, object]:
    index = archives.index_of(TREE)
    assert everything(tree) == expected(TREE, manifest=archives.manifest_of(index, TREE), index=index)
    return everything(tree)


def test_content_that_did_not_travel_is_copied_from_a_release_on_disk(receiver: Receiver, release: Path) -> None:
    tree, done = receiver.receive(io.BytesIO(honest(but=FILES)).read, releases=[release])
    assert (done.arrived, done.copied) == (0, 6)
    _content(tree)


def test_content_is_found_under_another_name_too(receiver: Receiver) -> None:
    old = {"requirements.txt": b"", "elsewhere/old.py": b"app = 1\n"}
    release = _receive(receiver, honest(old), "kept")
    tree = _receive(receiver, honest(but=["app.py"]), releases=[release])
    _content(tree)


def test_nothing_is_hard_linked(receiver: Receiver, release: Path) -> None:
    tree = _receive(receiver, honest(but=FILES), releases=[release])
    for path in FILES:
        assert (tree / path).stat().st_nlink == 1
        assert (tree / path).stat().st_ino != (release / path).stat().st_ino


def test_a_content_that_stands_twice_in_the_index_needs_to_travel_once(receiver: Receiver) -> None:
    tree = {"requirements.txt": b"", "a/__init__.py": b"same", "b/__init__.py": b"same", "c.py": b""}
    into = _receive(receiver, honest(tree, but=["a/__init__.py", "c.py"]))
    assert (into / "a/__init__.py").read_bytes() == b"same"
    assert (into / "c.py").read_bytes() == b""


def test_a_damaged_copy_is_passed_over_for_another(receiver: Receiver, release: Path) -> None:
    damaged = _receive(receiver, honest(), "damaged")
    (damaged / "app.py").write_bytes(b"app = 9\n")
    (damaged / "lib/data.bin").unlink()
    (damaged / "lib/empty").write_bytes(b"longer")
    (damaged / "run").unlink()
    (damaged / "run").symlink_to("/etc/passwd")
    tree = _receive(receiver, honest(but=FILES), releases=[damaged, release])
    _content(tree)


def test_a_fifo_in_the_place_of_a_copy_blocks_nothing(receiver: Receiver, release: Path) -> None:
    (release / "app.py").unlink()
    os.mkfifo(release / "app.py")
    with pytest.raises(Refused) as caught:
        _receive(receiver, honest(but=FILES), releases=[release])
    assert caught.value.code is Code.BUNDLE_INCOMPLETE


def test_no_good_copy_of_anything_is_a_refusal_that_counts(receiver: Receiver, release: Path) -> None:
    for path in FILES[:2]:
        (release / path).write_bytes(b"damaged!")
    with pytest.raises(Refused) as caught:
        _receive(receiver, honest(but=FILES), releases=[release])
    assert caught.value.code is Code.BUNDLE_INCOMPLETE
    assert caught.value.why == "2 of them; the first is app.py"
    assert not (receiver.staging / "new").exists()


def test_content_that_no_release_has_is_refused_before_anything_is_copied(
    receiver: Receiver, release: Path
) -> None:
    class NoCopies(Disk):
        def _at(self, op: str) -> None:
            assert op != "stage.copy"

    receiver.disk = NoCopies()
    with pytest.raises(Refused) as caught:
        _receive(receiver, honest({**TREE, "new.py": b"new"}, but=[*FILES, "new.py"]), releases=[release])
    assert caught.value.why == "1 of them; the first is new.py"


def test_a_copy_that_cannot_be_read_is_passed_over(
    receiver: Receiver, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = _receive(receiver, honest(), "second")
    pread = os.pread

    def failing(descriptor: int, size: int, at: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(release / "app.py"):
            raise OSError(5, "Input/output error")
        return pread(descriptor, size, at)

    monkeypatch.setattr(os, "pread", failing)  # no file of ours can be made unreadable to root
    _content(_receive(receiver, honest(but=FILES), releases=[release, second]))


def test_another_failure_while_copying_is_not_mistaken_for_a_damaged_copy(
    receiver: Receiver, release: Path
) -> None:
    class Full(Disk):
        def _at(self, op: str) -> None:
            if op == "stage.copy":
                raise Failed(Code.DISK_FULL, "full")

    receiver.disk = Full()
    with pytest.raises(Failed) as caught:
        _receive(receiver, honest(but=FILES), releases=[release])
    assert caught.value.code is Code.DISK_FULL


def test_modes_are_those_of_the_index_whatever_the_umask(receiver: Receiver, release: Path) -> None:
    before = os.umask(0o077)
    try:
        tree = _receive(receiver, honest(but=["run"]), releases=[release])
    finally:
        os.umask(before)
    assert [oct((tree / path).stat().st_mode & 0o7777) for path in ("app.py", "run", "lib", ".pusher")] == [
        *("0o644", "0o755", "0o755", "0o755")
    ]


def test_the_mark_of_completeness_is_the_last_thing_that_is_made(receiver: Receiver, release: Path) -> None:
    made: list[str] = []

    class Noting(Disk):
        def _at(self, op: str) -> None:
            made.append(op)

    receiver.disk = Noting()
    _receive(receiver, honest(but=["run"]), releases=[release])
    assert made[-4:] == ["stage.link", "stage.revision", "stage.complete", "stage.sync"]


@pytest.mark.parametrize("op", ["stage.folder", "stage.file", "stage.copy", "stage.link", "stage.complete"])
def test_a_failure_at_any_operation_comes_out_as_it_is(receiver: Receiver, release: Path, op: str) -> None:
    class Failing(Disk):
        def _at(self, at: str) -> None:
            if at == op:
                raise Failed(Code.DISK_ERROR, f"no {op}")

    receiver.disk = Failing()
    with pytest.raises(Failed, match=f"no {op}"):
        _receive(receiver, honest(but=["run"]), releases=[release])
    assert not (receiver.staging / "new").exists()


def test_a_link_planted_into_the_tree_is_not_written_through(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()

    class Planting(Disk):
        def _at(self, op: str) -> None:
            if op == "stage.file" and not (receiver.staging / "new/lib").is_symlink():
                (receiver.staging / "new/lib").rename(receiver.staging / "new/was-lib")
                (receiver.staging / "new/lib").symlink_to(tmp_path / "outside")

    receiver.disk = Planting()
    with pytest.raises(Failed) as caught:
        _receive(receiver, honest({"requirements.txt": b"", "app.py": b"1", "lib/x.py": b"2"}))
    assert caught.value.code is Code.DISK_ERROR
    assert not list((tmp_path / "outside").iterdir())


def test_a_stored_index_that_was_tampered_with_is_refused(receiver: Receiver) -> None:
    into = receiver.staging / "new"
    (into / ".pusher").mkdir(parents=True)
    index = into / ".pusher/index.jsonl"
    for content, code in (
        (b"{}\n", Code.BUNDLE_MALFORMED),
        (archives.index_of({"a" * 90: b""}), Code.LIMIT_EXCEEDED),
    ):
        index.write_bytes(content)
        with pytest.raises(Refused) as caught:
            _unpack_nothing(into, Limits(path=80))
        assert caught.value.code is code
    index.unlink()
    with pytest.raises(Failed, match="Could not read"):
        _unpack_nothing(into, Limits())


def _unpack_nothing(into: Path, limits: Limits) -> None:
    class Nothing:
        def files(self) -> Iterator[tuple[str, int, Iterator[bytes]]]:
            return iter(())

    unpack(Nothing(), into=into, version="v1", releases=list, disk=Disk(), limits=limits)  # type: ignore[arg-type]


def test_names_that_only_look_alike_stay_different(receiver: Receiver) -> None:
    tree = {
        "requirements.txt": b"",
        "a": b"1",
        "A": b"2",
        "\u00e9": b"3",
        "e\u0301": b"4",
        "Venv": b"5",
        "ﬁ": b"6",
    }
    into = _receive(receiver, honest(tree))
    assert {path: (into / path).read_bytes() for path in tree} == tree


def test_a_large_file_passes_through_little_memory(receiver: Receiver) -> None:
    tree = {"requirements.txt": b"", "large": os.urandom(1024 * 1024) * 24}
    raw = honest(tree)
    tracemalloc.start()
    try:
        _receive(receiver, raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024 + len(raw)


def test_room_is_asked_for_before_it_is_needed(tmp_path: Path) -> None:
    check_room(tmp_path, size=0, files=1)
    with pytest.raises(Refused) as caught:
        check_room(tmp_path, size=2**60, files=1)
    assert caught.value.code is Code.DISK_FULL
    assert f"{2**60 + RESERVE:,} bytes" in caught.value.why
    with pytest.raises(Refused, match="inodes"):
        check_room(tmp_path, size=0, files=2**60)
    with pytest.raises(Failed, match="Could not measure the free space of"):
        check_room(tmp_path / "missing", size=0, files=0)


def test_folders_are_closed_and_opened_again_as_needed(tmp_path: Path) -> None:
    paths = [f"d{number}/inner" for number in range(200)]
    for path in paths:
        (tmp_path / path).mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    with Folders(tmp_path) as folders:
        for path in paths:
            descriptor, name = folders.of(f"{path}/file")
            assert os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path / path)
            assert name == "file"
            assert len(os.listdir("/proc/self/fd")) < before + 80
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(Failed, match="Could not open the folder"):
        Folders(tmp_path / "missing")
