"""A bundle is an ordinary zstd tar, and its contents are checked against its index."""

import shutil
import subprocess
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pusher.bundle.archive import Bundle, read_bundle, write_bundle
from pusher.bundle.manifest import make_manifest
from pusher.bundle.signed_manifest import SignedManifest
from pusher.bundle.tree import Tree, read_tree
from pusher.errors import Usage
from pusher.wire import Manifest, Refused, tar

SIGNATURE = b"-----BEGIN SSH SIGNATURE-----\n"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    folder = tmp_path / "v1"
    (folder / "pkg").mkdir(parents=True)
    (folder / "app.py").write_bytes(b"print('hello')\n")
    (folder / "pkg/same.py").write_bytes(b"print('hello')\n")
    (folder / "pkg/run").write_bytes(b"#!/bin/sh\n" * 100_000)
    (folder / "pkg/run").chmod(0o755)
    (folder / "latest").symlink_to("pkg/run")
    return read_tree(folder)


@pytest.fixture
def signed(tree: Tree) -> SignedManifest:
    now = int(time.time() * 1000)
    manifest = make_manifest(tree, app="flask-demo", version="v1", created=now, expires=now + 1)
    return SignedManifest(manifest.to_bytes(), SIGNATURE, tree.index)


@pytest.fixture
def written(tmp_path: Path, tree: Tree, signed: SignedManifest) -> Path:
    file = tmp_path / "flask-demo-v1.tar.zst"
    file.write_bytes(b"".join(write_bundle(signed, tree.contents())))
    return file


def squeezed(*members: tuple[str, bytes]) -> bytes:
    parts = [tar.header(name, size=len(raw)) + raw + tar.padding(len(raw)) for name, raw in members]
    return zstandard.compress(b"".join(parts) + tar.END)


def drain(packed: Bundle) -> dict[str, bytes]:
    return {file.path: b"".join(content) for file, content in packed.contents()}


def test_what_was_written_is_read_back(written: Path, tree: Tree, signed: SignedManifest) -> None:
    packed = read_bundle(written)
    assert packed.signed == signed
    assert packed.manifest == Manifest.from_bytes(signed.manifest)
    assert packed.entries == tree.entries
    assert drain(packed) == {file.path: b"".join(content) for file, content in tree.contents()}


def test_only_wanted_contents_are_read(written: Path, tree: Tree) -> None:
    wanted = {next(file.sha256 for file in tree.files if file.path == "app.py")}
    assert [file.path for file, _ in read_bundle(written).contents(wanted)] == ["app.py", "pkg/same.py"]


def test_packing_twice_gives_the_same_stream(tree: Tree, signed: SignedManifest) -> None:
    first, second = (b"".join(write_bundle(signed, tree.contents())) for _ in range(2))
    assert first == second


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
def test_tar_lists_its_members_in_their_order(written: Path) -> None:
    listed = subprocess.run(["tar", "--zstd", "-tvf", written], capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in listed.splitlines()] == [
        "manifest.json",
        "manifest.json.sig",
        "index.jsonl",
        "files/app.py",
        "files/pkg/run",
        "files/pkg/same.py",
    ]
    assert "-rwxr-xr-x 0/0" in listed
    assert "1970-01-01 00:00 files/app.py" in listed


def test_a_signed_manifest_without_files_is_a_bundle(signed: SignedManifest, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"".join(write_bundle(signed)))
    assert drain(read_bundle(tmp_path / "b")) == {}


def test_a_bundle_that_gnu_tar_made_is_read(written: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    before = drain(read_bundle(written))
    subprocess.run(["tar", "--zstd", "-xf", written, "-C", out], check=True)
    names = ["manifest.json", "manifest.json.sig", "index.jsonl", *(f"files/{path}" for path in before)]
    subprocess.run(["tar", "-cf", tmp_path / "t", "-C", out, *names], check=True)
    half = (tmp_path / "t").stat().st_size // 2
    raw = (tmp_path / "t").read_bytes()
    # Two frames are one stream, as for zstd itself.
    written.write_bytes(zstandard.compress(raw[:half]) + zstandard.compress(raw[half:]))
    assert drain(read_bundle(written)) == before


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda raw: b"PK" + raw, "it is not compressed with zstd"),
        (lambda raw: raw + b"more", "it is not compressed with zstd"),
        (lambda raw: raw[:-20], "it ends early"),
        (lambda raw: b"", "it ends early"),
        (
            lambda raw: zstandard.compress(b"no tar" * 1000),
            "the header of a member is damaged|the checksum is not an octal number",
        ),
    ],
)
def test_a_damaged_file_is_refused(written: Path, spoil: Callable[[bytes], bytes], why: str) -> None:
    written.write_bytes(spoil(written.read_bytes()))
    with pytest.raises(Refused, match=f"The bundle cannot be read: ({why})"):
        drain(read_bundle(written))


def test_members_out_of_order_are_refused(signed: SignedManifest, tmp_path: Path) -> None:
    members = [("manifest.json", signed.manifest), ("index.jsonl", signed.index), ("manifest.json.sig", SIGNATURE)]
    for some in (members, members[1:], members[:1], []):
        (tmp_path / "b").write_bytes(squeezed(*some))
        with pytest.raises(Refused, match="is missing, or not in its place"):
            read_bundle(tmp_path / "b")


def test_a_manifest_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(squeezed(("manifest.json", b" " * 65537)))
    with pytest.raises(Refused, match=r"manifest\.json has 65537 bytes: the limit is 65536"):
        read_bundle(tmp_path / "b")


def test_an_index_that_the_manifest_does_not_name_is_refused(signed: SignedManifest, tmp_path: Path) -> None:
    changed = SignedManifest(signed.manifest, SIGNATURE, signed.index.replace(b"app.py", b"bpp.py"))
    (tmp_path / "b").write_bytes(b"".join(write_bundle(changed)))
    with pytest.raises(Refused, match="its index is not the one that was signed"):
        read_bundle(tmp_path / "b")


def test_an_index_that_breaks_the_contract_is_refused(tree: Tree, tmp_path: Path) -> None:
    lines = tree.index.splitlines(keepends=True)
    swapped = Tree(tree.folder, tree.entries, b"".join(reversed(lines)))
    manifest = make_manifest(swapped, app="flask-demo", version="v1", created=0, expires=1)
    signed = SignedManifest(manifest.to_bytes(), SIGNATURE, swapped.index)
    (tmp_path / "b").write_bytes(b"".join(write_bundle(signed)))
    with pytest.raises(Refused, match="the index is not sorted"):
        read_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (("files/evil.py", b"x"), "'files/evil.py' is in it twice, or not in its index"),
        (("app.py", b"print('hello')\n"), "'app.py' is in it twice, or not in its index"),
        (("files/latest", b""), "'files/latest' is in it twice, or not in its index"),
        (("files/app.py", b"print('hullo')\n"), "'app.py' differs from the index"),
        (("files/app.py", b"print('hello')\n\n"), "'app.py' differs from the index"),
    ],
)
def test_a_payload_that_differs_from_the_index_is_refused(
    signed: SignedManifest, tmp_path: Path, member: tuple[str, bytes], why: str
) -> None:
    first = [("manifest.json", signed.manifest), ("manifest.json.sig", SIGNATURE), ("index.jsonl", signed.index)]
    (tmp_path / "b").write_bytes(squeezed(*first, member))
    with pytest.raises(Refused, match=why):
        drain(read_bundle(tmp_path / "b"))


def test_a_repeated_name_is_refused(signed: SignedManifest, tree: Tree, tmp_path: Path) -> None:
    twice = [next(tree.contents()), next(tree.contents())]
    (tmp_path / "b").write_bytes(b"".join(write_bundle(signed, iter(twice))))
    with pytest.raises(Refused, match=r"'files/app\.py' is in it twice"):
        drain(read_bundle(tmp_path / "b"))


def test_a_highly_compressed_file_is_read_a_little_at_a_time(tmp_path: Path) -> None:
    size = 160 * 1024**2
    (tmp_path / "sparse").mkdir()
    with (tmp_path / "sparse/database").open("wb") as file:
        file.truncate(size)
    sparse = read_tree(tmp_path / "sparse")
    manifest = make_manifest(sparse, app="flask-demo", version="v1", created=0, expires=1)
    signed = SignedManifest(manifest.to_bytes(), SIGNATURE, sparse.index)
    with (tmp_path / "b").open("wb") as out:
        out.writelines(write_bundle(signed, sparse.contents()))
    assert (tmp_path / "b").stat().st_size < 100_000
    tracemalloc.start()
    try:
        found = read_bundle(tmp_path / "b").contents()
        assert sum(len(piece) for _, content in found for piece in content) == size
        assert tracemalloc.get_traced_memory()[1] < size // 2
    finally:
        tracemalloc.stop()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Usage, match=r"nothing\.tar\.zst cannot be read: No such file"):
        read_bundle(tmp_path / "nothing.tar.zst")
