"""Anything but a bundle is refused, and leaves nothing on the disk."""

import io
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.host.bundle.tar import TarBundle
from pusher.wire import Code, Refused
from tests.hostile import archives
from tests.hostile.archives import TREE, honest
from tests.hostile.cases import CASES, Case
from tests.hostile.receiving import Receiver, everything, expected

EXPECTED = expected(
    TREE, manifest=archives.manifest_of(archives.index_of(TREE), TREE), index=archives.index_of(TREE)
)

SMALL: archives.Tree = {"app.py": b"app = 1\n", "requirements.txt": b"", "latest": "app.py"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A place with a neighbour that must not change."""
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour" / "secret").write_text("mine")
    (tmp_path / "app").mkdir()
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_refused_and_leaves_nothing(case: Case, root: Path) -> None:
    source = io.BytesIO(case.make())
    receiver = Receiver(root, shared=case.shared)
    before = everything(root) | {"app/.staging": 0o040000}
    began = time.process_time()
    with pytest.raises(Refused) as caught:
        receiver.receive(source.read)
    receiver.staging.mkdir(exist_ok=True)  # refused before anything was begun
    assert caught.value.code in case.codes, str(caught.value)
    assert case.says in str(caught.value)
    assert caught.value.why or caught.value.code is Code.CONTENT_MISMATCH
    assert caught.value.hint
    assert everything(root) == before
    assert time.process_time() - began < 5
    if case.reads_most is not None:
        assert source.tell() <= case.reads_most


def test_the_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_an_honest_bundle_is_unpacked_exactly(root: Path) -> None:
    into, done = Receiver(root).receive(io.BytesIO(honest()).read)
    assert everything(into) == EXPECTED
    assert (done.arrived, done.copied) == (6, 0)


def test_a_bundle_may_come_in_single_bytes(root: Path) -> None:
    source = io.BytesIO(honest())
    into, _ = Receiver(root).receive(lambda size: source.read(1))
    assert everything(into) == EXPECTED


def test_a_bundle_cut_off_anywhere_is_refused(root: Path) -> None:
    whole = honest()
    for size in range(len(whole)):
        with pytest.raises(Refused) as caught:
            Receiver(root).receive(io.BytesIO(whole[:size]).read)
        assert caught.value.code is Code.BUNDLE_MALFORMED
    assert not list((root / "app").rglob("*/*"))


def test_a_tar_cut_off_at_any_block_is_refused(root: Path) -> None:
    whole = archives.signed(SMALL) + archives.payload(SMALL) + archives.END
    for size in range(0, len(whole), 128):
        with pytest.raises(Refused) as caught:
            Receiver(root).receive(io.BytesIO(archives.squeeze(whole[:size])).read)
        assert caught.value.code is Code.BUNDLE_MALFORMED


@pytest.mark.parametrize("bit", [0, 7])
def test_a_bundle_with_any_bit_turned_is_refused_or_the_same(root: Path, bit: int) -> None:
    whole = honest(SMALL)
    good, _ = Receiver(root).receive(io.BytesIO(whole).read, "good")
    for at in range(len(whole)):
        damaged = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
        try:
            into, _ = Receiver(root).receive(io.BytesIO(damaged).read, f"at-{at}")
        except Refused:
            continue
        same = everything(into)
        # The signed manifest may differ: its signature covers it, which this test does not verify.
        assert {k: v for k, v in same.items() if not k.startswith((".pusher", "REVISION"))} == {
            k: v for k, v in everything(good).items() if not k.startswith((".pusher", "REVISION"))
        }


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=2000))
def test_noise_in_a_tar_is_refused(root: Path, data: bytes) -> None:
    with pytest.raises(Refused):
        Receiver(root).receive(io.BytesIO(archives.squeeze(archives.signed() + data)).read)


def test_a_member_that_was_not_read_is_our_own_mistake() -> None:
    bundle = TarBundle(io.BytesIO(honest()).read)
    bundle.signed_manifest()
    assert b"".join(bundle.index(len(archives.index_of(TREE)))) == archives.index_of(TREE)
    files = bundle.files()
    assert next(files)[:2] == ("app.py", 8)
    with pytest.raises(RuntimeError, match="not read to its end"):
        next(files)


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=4).map("/".join),
    st.one_of(st.binary(max_size=3000), st.tuples(st.binary(max_size=50), st.just(0o755))),
    max_size=8,
)


def _without_clashes(tree: dict[str, bytes | tuple[bytes, int]]) -> archives.Tree:
    reserved = (".pusher", ".complete", "REVISION", "venv")
    kept = {path: what for path, what in tree.items() if path.split("/")[0] not in reserved}
    beneath = {path for path in kept if any(path.startswith(f"{other}/") for other in kept)}
    return {"requirements.txt": b""} | {path: what for path, what in kept.items() if path not in beneath}


FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


@pytest.mark.parametrize("kind", ["gnu", "pax"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES.map(_without_clashes))
def test_archives_of_pythons_tarfile_come_out_the_same(root: Path, kind: str, tree: archives.Tree) -> None:
    receiver = Receiver(root)
    into, _ = receiver.receive(io.BytesIO(_by_tarfile(tree, FORMATS[kind])).read)
    index = archives.index_of(tree)
    found = everything(into)
    assert found == expected(tree, manifest=archives.manifest_of(index, tree), index=index)
    receiver.disk.remove(into, trash=receiver.staging / "trash", op="test")


LONG: archives.Tree = {
    **TREE,
    f"{'d' * 90}/{'e' * 90}/short": b"1",
    f"{'d' * 90}/{'f' * 120}": b"2",
    "/".join(["g" * 200] * 4): b"3",
}


@pytest.mark.parametrize("kind", FORMATS)
def test_long_names_of_every_format_are_read(root: Path, kind: str) -> None:
    tree = {path: what for path, what in LONG.items() if kind != "ustar" or len(path) < 200}
    into, done = Receiver(root).receive(io.BytesIO(_by_tarfile(tree, FORMATS[kind])).read)
    assert (into / f"{'d' * 90}/{'e' * 90}/short").read_bytes() == b"1"
    assert done.arrived == sum(not isinstance(what, str) for what in tree.values())


@pytest.mark.parametrize("options", [(), ("--format=gnu",), ("--format=pax",), ("--blocking-factor=100",)])
def test_a_bundle_made_by_gnu_tar_is_read(root: Path, options: tuple[str, ...]) -> None:
    made = root / "made"
    index = archives.index_of(LONG)
    manifest = archives.manifest_of(index, LONG)
    for path, content in {
        "manifest.json": manifest,
        "manifest.json.sig": b"signature",
        "index.jsonl": index,
        **{
            f"files/{path}": archives.content_of(LONG, path)
            for path, what in LONG.items()
            if not isinstance(what, str)
        },
    }.items():
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_bytes(content)
    files = sorted(str(path.relative_to(made)) for path in (made / "files").rglob("*") if path.is_file())
    names = ["manifest.json", "manifest.json.sig", "index.jsonl", *reversed(files)]
    tar = subprocess.run(["tar", "-c", *options, "-C", made, *names], check=True, capture_output=True)
    into, _ = Receiver(root).receive(io.BytesIO(archives.squeeze(tar.stdout)).read)
    assert everything(into) == expected(LONG, manifest=manifest, index=index)


@pytest.mark.parametrize(
    "compress",
    [
        lambda tar: zstandard.ZstdCompressor(level=1).compress(tar),
        lambda tar: zstandard.ZstdCompressor(level=19).compress(tar),
        lambda tar: zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=False).compress(tar),
        lambda tar: b"".join(archives.squeeze(tar[at : at + 1000]) for at in range(0, len(tar), 1000)),
        lambda tar: archives.squeeze(b"") + archives.squeeze(tar) + archives.squeeze(b""),
        lambda tar: archives.squeeze(tar, level=-5),
    ],
    ids=["level 1", "level 19", "checksum", "many frames", "empty frames", "level -5"],
)
def test_every_ordinary_way_to_compress_is_read(root: Path, compress: Callable[[bytes], bytes]) -> None:
    tar = archives.signed() + archives.payload() + archives.END
    into, _ = Receiver(root).receive(io.BytesIO(compress(tar)).read)
    assert everything(into) == EXPECTED


def _by_tarfile(tree: archives.Tree, kind: int) -> bytes:
    index = archives.index_of(tree)
    out = io.BytesIO()
    with (
        zstandard.ZstdCompressor().stream_writer(out, closefd=False) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=kind) as tar,
    ):
        named = {"manifest.json": archives.manifest_of(index, tree), "manifest.json.sig": b"signature"}
        named["index.jsonl"] = index
        for path, what in tree.items():
            if not isinstance(what, str):
                named[f"files/{path}"] = archives.content_of(tree, path)
        for name, content in named.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_700_000_000.25 if kind == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()
