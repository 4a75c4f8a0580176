"""The index of a folder depends only on its content."""

import os
import shutil
import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from pusher.bundle.tree import Tree, dangling, read_tree
from pusher.bundle.whole_file import write_whole
from pusher.errors import Usage
from pusher.wire import Failed, File, Link, read_index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "v1"
    made.mkdir()
    return made


def write(file: Path, content: bytes = b"x", mode: int = 0o644) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    file.chmod(mode)
    return file


def paths(tree: Tree) -> list[str]:
    return [entry.path for entry in tree.entries]


def test_modes_links_empty_files_and_unicode_names_survive(folder: Path) -> None:
    write(folder / "bin/run", b"#!/bin/sh\n", 0o700)
    write(folder / "grüße/日本.txt", b"", 0o600)
    (folder / "link").symlink_to("bin/run")
    (folder / "bin/up").symlink_to("../grüße/")
    tree = read_tree(folder)
    assert tree.entries == (
        File("bin/run", 0o755, 10, sha256(b"#!/bin/sh\n").hexdigest()),
        Link("bin/up", "../grüße/"),
        File("grüße/日本.txt", 0o644, 0, sha256(b"").hexdigest()),
        Link("link", "bin/run"),
    )


def test_an_agent_can_read_the_index(folder: Path) -> None:
    for name in ("b/c", "b-c", "b0", "a", "é", "Z", "b/a/d"):
        write(folder / name)
    tree = read_tree(folder)
    assert tuple(read_index(tree.index.splitlines(keepends=True))) == tree.entries


def test_the_same_tree_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    names = ["a", "b/c", "b/d", "e"]
    for name in names:
        write(folder / name, name.encode())
    other = tmp_path / "elsewhere"
    for name in reversed(names):
        write(other / name, name.encode(), 0o640)
        os.utime(other / name, (1, 1))
    assert read_tree(other).index == read_tree(folder).index


def test_content_decides_and_never_size_and_time(folder: Path) -> None:
    write(folder / "app.py", b"one")
    os.utime(folder / "app.py", (1, 1))
    before = read_tree(folder).index
    write(folder / "app.py", b"two")
    os.utime(folder / "app.py", (1, 1))
    assert read_tree(folder).index != before


def test_contents_come_whole_and_in_order(folder: Path) -> None:
    write(folder / "b", b"B" * 3_000_000)
    write(folder / "a", b"")
    found = [(file.path, b"".join(content)) for file, content in read_tree(folder).contents()]
    assert found == [("a", b""), ("b", b"B" * 3_000_000)]


def test_only_the_contents_that_are_wanted_come(folder: Path) -> None:
    for name in "abc":
        write(folder / name, name.encode())
    wanted = {sha256(b"b").hexdigest()}
    assert [file.path for file, _ in read_tree(folder).contents(wanted)] == ["b"]


@pytest.mark.parametrize("content", [b"other", b"longer than it was", b""])
def test_a_file_that_changes_while_sending_is_an_error(folder: Path, content: bytes) -> None:
    write(folder / "app.py", b"first")
    tree = read_tree(folder)
    write(folder / "app.py", content)
    with pytest.raises(Failed, match=r"'app\.py' changed while it was being sent"):
        [list(pieces) for _, pieces in tree.contents()]


def test_a_file_that_vanishes_while_sending_is_named(folder: Path) -> None:
    write(folder / "app.py")
    tree = read_tree(folder)
    (folder / "app.py").unlink()
    with pytest.raises(Usage, match=r"'app\.py' cannot be read: No such file"):
        [list(pieces) for _, pieces in tree.contents()]


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "a/../../b", ".."])
def test_a_link_that_leaves_the_tree_is_named(folder: Path, target: str) -> None:
    (folder / "out").symlink_to(target)
    with pytest.raises(Usage, match="'out' cannot be packed: the link 'out' -> "):
        read_tree(folder)


@pytest.mark.parametrize("name", [".pusher/manifest.json", ".complete", "REVISION"])
def test_a_reserved_name_is_named(folder: Path, name: str) -> None:
    write(folder / name)
    with pytest.raises(Usage, match=f"'{name}' cannot be packed: the agent reserves this name"):
        read_tree(folder)


def test_a_special_file_is_named(folder: Path) -> None:
    os.mkfifo(folder / "queue")
    with pytest.raises(Usage, match="'queue' cannot be packed: it is a pipe, not a file or a link"):
        read_tree(folder)
    (folder / "queue").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s"))
        with pytest.raises(Usage, match="'s' cannot be packed: it is a socket"):
            read_tree(folder)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device")
def test_a_device_is_named(folder: Path) -> None:
    os.mknod(folder / "null", 0o20666, os.makedev(1, 3))
    with pytest.raises(Usage, match="'null' cannot be packed: it is a device"):
        read_tree(folder)


def test_a_name_that_is_not_utf_8_is_named(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).write_bytes(b"")
    with pytest.raises(Usage, match=r"'caf\\udce9' is not a name in UTF-8"):
        read_tree(folder)


def test_an_unreadable_file_is_named(as_nobody: Path) -> None:
    write(as_nobody / "secret", mode=0)
    with pytest.raises(Usage, match="'secret' cannot be read: Permission denied"):
        read_tree(as_nobody)
    (as_nobody / "secret").unlink()
    (as_nobody / "closed").mkdir(0)
    with pytest.raises(Usage, match="'closed/' cannot be listed: Permission denied"):
        read_tree(as_nobody)


def test_an_empty_tree_is_an_error(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(Usage, match="has no files to send"):
        read_tree(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Usage, match=r"v9' cannot be listed: No such file"):
        read_tree(tmp_path / "v9")


@pytest.mark.parametrize(
    "name",
    [
        ".git/HEAD",
        ".venv/bin/python",
        "venv/bin/python",
        "static/node_modules/x.js",
        "pkg/__pycache__/a.cpython-311.pyc",
        "a.pyc",
        "a.py~",
        ".a.py.swp",
        "#a.py#",
        ".#a.py",
        ".DS_Store",
        ".idea/x.xml",
        ".vscode/settings.json",
        ".mypy_cache/x",
        ".pusherignore",
    ],
)
def test_litter_is_ignored(folder: Path, name: str) -> None:
    write(folder / "app.py")
    write(folder / "a.py")
    write(folder / name, b"# nothing\n")
    assert paths(read_tree(folder)) == ["a.py", "app.py"]


@pytest.mark.parametrize(
    "name",
    [
        *(".gitignore", "git/x", "venv.py", "node_modules.txt", "swp", "#x", "list~"),
        *("data.tar.zst", "data.tar.zst/x"),
    ],
)
def test_names_that_only_look_like_litter_are_packed(folder: Path, name: str) -> None:
    write(folder / name)
    assert paths(read_tree(folder)) == [name]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("*.log\n", ["a.txt", "logs/keep.txt", "sub/a.txt"]),
        ("/a.txt\n", ["logs/keep.txt", "logs/x.log", "sub/a.txt"]),
        ("logs/\n", ["a.txt", "sub/a.txt"]),
        ("logs/*\n!logs/keep.txt\n", ["a.txt", "logs/keep.txt", "sub/a.txt"]),
        ("logs\n!logs/keep.txt\n", ["a.txt", "sub/a.txt"]),
        ("# a comment\n\n**/a.txt\n", ["logs/keep.txt", "logs/x.log"]),
        ("a.txt\n!a.txt\n", ["a.txt", "logs/keep.txt", "logs/x.log", "sub/a.txt"]),
    ],
)
def test_pusherignore_reads_as_gitignore_does(folder: Path, rules: str, expected: list[str]) -> None:
    for name in ("a.txt", "sub/a.txt", "logs/x.log", "logs/keep.txt"):
        write(folder / name)
    write(folder / ".pusherignore", rules.encode())
    assert paths(read_tree(folder)) == expected


def test_pusherignore_can_include_what_is_ignored_by_default(folder: Path) -> None:
    write(folder / "static/node_modules/x.js")
    write(folder / ".pusherignore", b"!node_modules\n!.pusherignore\n")
    assert paths(read_tree(folder)) == [".pusherignore", "static/node_modules/x.js"]


def test_an_unusable_pusherignore_is_named(folder: Path) -> None:
    write(folder / "a")
    (folder / ".pusherignore").mkdir()
    with pytest.raises(Usage, match=r"\.pusherignore cannot be used: it is not a file"):
        read_tree(folder)
    shutil.rmtree(folder / ".pusherignore")
    os.mkfifo(folder / ".pusherignore")
    with pytest.raises(Usage, match=r"\.pusherignore cannot be used: it is not a file"):
        read_tree(folder)
    (folder / ".pusherignore").unlink()
    for content in (b"\xff\n", b"[z-a]\n", b"!\n"):
        write(folder / ".pusherignore", content)
        with pytest.raises(Usage, match=r"\.pusherignore cannot be used"):
            read_tree(folder)


def test_a_dangling_pusherignore_is_an_error(folder: Path) -> None:
    write(folder / "secret")
    (folder / ".pusherignore").symlink_to("../shared/.pusherignore")
    with pytest.raises(Usage, match=r"\.pusherignore cannot be used: No such file"):
        read_tree(folder)


def test_a_byte_order_mark_hides_no_pattern(folder: Path) -> None:
    write(folder / ".pusherignore", b"\xef\xbb\xbf*.key\r\n")
    write(folder / "a.key")
    write(folder / "b")
    assert paths(read_tree(folder)) == ["b"]


def test_folders_that_are_too_deep_are_named_however_deep(folder: Path) -> None:
    write(folder / "a")
    deepest = folder
    for _ in range(400):
        deepest /= "d"
        deepest.mkdir()
    with pytest.raises(Usage, match=r"cannot be packed: .* is 65 folders deep; the limit is 64"):
        read_tree(folder)


def test_two_files_that_are_written_in_one_folder_at_the_same_time_both_appear(tmp_path: Path) -> None:
    """Two containers may share a folder, and have processes of the same number."""

    def pieces() -> Iterator[bytes]:
        write_whole(tmp_path / "other", [b"2"])
        yield b"1"

    write_whole(tmp_path / "one", pieces())
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"one": b"1", "other": b"2"}


def test_links_without_their_target_in_the_tree_are_named(tmp_path: Path) -> None:
    (tmp_path / "static/css").mkdir(parents=True)
    (tmp_path / "static/css/a.css").touch()
    (tmp_path / "debug.pyc").touch()
    good = {"a": "static/css/a.css", "static/up": "../a", "folder": "static", "slash": "static/"}
    bad = {"gone": "nowhere", "home": "debug.pyc", "static/chain": "../gone"}
    assert dangling(read_tree(tmp_path)) == []
    for name, target in (good | bad).items():
        (tmp_path / name).symlink_to(target)
    assert [link.path for link in dangling(read_tree(tmp_path))] == sorted(bad)
