"""The index can only list what lies inside the tree, each name once, in one spelling."""

import posixpath
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pusher.wire import (
    Entry,
    File,
    LimitError,
    Limits,
    Link,
    WireError,
    canonical,
    check_path,
    check_target,
    index_line,
    parse_index_line,
    read_index,
    reserved,
)

SHA256 = "0a" * 32
ANY_NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
NAMES = ANY_NAME.filter(lambda name: name not in (".", "..") and not {"/", "\0"} & {*name})
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
FILES = st.builds(File, PATHS, st.sampled_from([0o644, 0o755]), st.integers(0, 2**32), st.just(SHA256))


def file(path: str, size: int = 1) -> File:
    return File(path, 0o644, size, SHA256)


def read(*entries: Entry, limits: Limits | None = None) -> list[Entry]:
    return list(read_index(map(index_line, entries), limits=limits))


@given(FILES)
def test_a_file_reads_as_what_was_written(entry: File) -> None:
    assert parse_index_line(index_line(entry)) == entry
    assert read(entry) == [entry]


@given(PATHS, NAMES)
def test_a_link_reads_as_what_was_written(path: str, target: str) -> None:
    assert read(Link(path, target)) == [Link(path, target)]


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True))
def test_names_come_in_the_order_of_their_utf_8_bytes(names: list[str]) -> None:
    entries = [file(name) for name in sorted(names, key=str.encode)]
    assert read(*entries) == entries


@given(st.text(alphabet="./a\0\\ é\ud800", max_size=30))
@example("../../etc/passwd")
def test_a_path_that_is_let_in_names_something_inside(path: str) -> None:
    try:
        check_path(path)
    except WireError:
        return
    assert posixpath.normpath(f"/tree/{path}") == f"/tree/{path}"
    assert "\0" not in path
    path.encode()


@given(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4), st.text(alphabet="./ab\0\\", max_size=16))
@example(["a"], "..")
@example(["a", "b"], "..")
@example(["a", "b"], "../")
@example(["a", "b"], "../../b")
def test_a_link_that_is_let_in_leads_inside(parts: list[str], target: str) -> None:
    path = "/".join(parts)
    try:
        check_target(path, target)
    except WireError:
        return
    end = posixpath.normpath(posixpath.join("/tree", posixpath.dirname(path), target))
    assert end == "/tree" or end.startswith("/tree/")
    assert ".." not in re.sub(r"^(\.\./)*(\.\.$)?", "", target).split("/")


@pytest.mark.parametrize(
    "path", ["", "/", "/etc/passwd", ".", "..", "../x", "a/../b", "a/./b", "a//b", "a/", "a\0b", "a" * 256]
)
def test_hostile_paths_are_refused(path: str) -> None:
    with pytest.raises(WireError, match="is not a plain relative path"):
        check_path(path)


def test_a_path_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(WireError, match=r"'caf\\udce9' is not a name in UTF-8"):
        check_path("caf\udce9")


@pytest.mark.parametrize("target", ["/etc/passwd", "", ".", "a/..", "a/../..", "../..", "../../x", "a//b", "./a"])
def test_hostile_targets_are_refused(target: str) -> None:
    with pytest.raises(WireError, match="the link 'x/l'"):
        check_target("x/l", target)


@pytest.mark.parametrize("target", ["a", "a/b", "a/", "..", "../", "../a", "../a/"])
def test_targets_inside_the_tree_are_let_in(target: str) -> None:
    assert check_target("x/l", target) == target


def test_long_and_deep_paths_are_over_the_limit() -> None:
    with pytest.raises(LimitError, match="has 1025 bytes; the limit for a path is 1024"):
        check_path("/".join(["a" * 204] * 5) + "b")
    with pytest.raises(LimitError, match="65 folders deep; the limit is 64"):
        check_path("/".join(["a"] * 65))
    assert check_path("/".join(["a"] * 64))


def test_an_index_that_is_not_sorted_or_repeats_a_name_is_refused() -> None:
    for second in ("a", "b"):
        with pytest.raises(WireError, match="is not sorted, or repeats a name, at"):
            read(file("b"), file(second))


@pytest.mark.parametrize("above", [file("a"), Link("a", "b")])
@pytest.mark.parametrize("beneath", ["a/b", "a/b/c"])
def test_a_path_beneath_a_file_or_a_link_is_refused(above: Entry, beneath: str) -> None:
    with pytest.raises(WireError, match="is beneath 'a', which is not a folder"):
        read(above, file("a-b"), file(beneath))


def test_folders_may_share_what_is_above_them() -> None:
    entries = [file("a/b/c"), file("a/b/d"), file("a/e")]
    assert read(*entries) == entries


def test_more_files_or_bytes_than_the_limits_are_refused() -> None:
    with pytest.raises(LimitError, match="more than 1 files"):
        read(file("a"), Link("b", "a"), limits=Limits(files=1))
    with pytest.raises(LimitError, match="more than 10 bytes together"):
        read(file("a", 10), file("b", 1), limits=Limits(unpacked=10))
    assert len(read(file("a", 10), Link("b", "a"), limits=Limits(files=2, unpacked=10))) == 2


@pytest.mark.parametrize(
    "members",
    [
        {"path": "a", "mode": "0777", "size": 1, "sha256": SHA256},
        {"path": "a", "mode": "644", "size": 1, "sha256": SHA256},
        {"path": "a", "mode": 420, "size": 1, "sha256": SHA256},
        {"path": "a", "mode": "0644", "size": -1, "sha256": SHA256},
        {"path": "a", "mode": "0644", "size": 1.0, "sha256": SHA256},
        {"path": "a", "mode": "0644", "size": 1, "sha256": SHA256.upper()},
        {"path": "a", "mode": "0644", "size": 1},
        {"path": "a", "mode": "0644", "size": 1, "sha256": SHA256, "uid": 0},
        {"path": "a", "target": "b", "mode": "0644"},
        {"path": 1, "target": "b"},
        {"path": "a", "target": None},
        {},
    ],
)
def test_a_line_with_other_members_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(WireError):
        parse_index_line(canonical(members) + b"\n")


@pytest.mark.parametrize(
    "line",
    [
        b'{"path":"a","target":"b"}',
        b'{"path":"a","target":"b"}\r\n',
        b'{"path":"a", "target":"b"}\n',
        b'{"target":"b","path":"a"}\n',
        b'{"path":"x","path":"a","target":"b"}\n',
        b'{"path":"\\u0061","target":"b"}\n',
        b'{"path":"\\ud800","target":"b"}\n',
    ],
)
def test_a_line_in_another_spelling_is_refused(line: bytes) -> None:
    with pytest.raises(WireError):
        parse_index_line(line)


@pytest.mark.parametrize("path", [".pusher", ".pusher/x", ".complete", "REVISION", "venv", "venv/bin/python"])
def test_the_names_of_the_agent_are_reserved(path: str) -> None:
    assert reserved(path)


@pytest.mark.parametrize("path", ["a/venv", "venv2", "revision", ".pusherignore", "a/.pusher"])
def test_names_that_only_look_like_them_are_not(path: str) -> None:
    assert not reserved(path)


@pytest.mark.parametrize(
    ("path", "is_reserved"),
    [("var/uploads", True), ("var/uploads/x", True), ("var", True), ("var/x", False), ("var/uploads2", False)],
)
def test_a_shared_path_reserves_itself_and_everything_in_it_and_above_it(path: str, is_reserved: bool) -> None:
    assert reserved(path, shared=["var/uploads"]) is is_reserved
