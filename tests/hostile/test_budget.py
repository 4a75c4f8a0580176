"""Reading a bundle costs no more than its budget: bombs of every kind end after counted work, on both doors."""

import ast
import io
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.core.environment_file import parse_environment_file
from agent.host.bundle.budget import UNSIGNED, Budget, signed_allowance
from agent.host.bundle.tar import TarBundle
from agent.host.drop.directory import OpenDirectory
from agent.host.drop.dropped_file import DroppedFile
from agent.host.drop.dropped_folder import DroppedFolder
from agent.host.storage.disk import Disk
from pusher.wire import Code, Manifest, Problem, Refused
from pusher.wire.tar import TarReader
from tests.hostile import archives
from tests.hostile.archives import END, TREE, member, pax, record, rle_frame, squeeze

FRAME = bytes.fromhex("28b52ffd0068")  # a frame with a window of 8 MiB and no content size
EMPTY_FRAME = FRAME + b"\x01\x00\x00"
EMPTY_LONG_NAME = member("L", b"", kind=b"L")


class Counting:
    """A source of bytes that counts what is read of it. It ends after `most` bytes, so every test ends."""

    def __init__(self, start: bytes, *, then: bytes = b"", most: int = 8 * 1024**2) -> None:
        self._start, self._then, self._most = start, then, most
        self.reads = self.bytes = 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        at, size = self.bytes, min(size, self._most - self.bytes)
        part = self._start[at : at + size]
        if not part and self._then and size > 0:
            turn = (at - len(self._start)) % len(self._then)
            part = (self._then * (size // len(self._then) + 2))[turn : turn + size]
        self.bytes += len(part)
        return part


def manifest_in(tree: archives.Tree = TREE) -> Manifest:
    return Manifest.from_bytes(archives.manifest_of(archives.index_of(tree), tree))


def begin(count: int, extra: Callable[[int], bytes]) -> bytes:
    """`count` times what `extra` makes, in one frame."""
    return squeeze(b"".join(extra(n) for n in range(count)))


BOMBS: dict[str, Callable[[], Counting]] = {
    "empty frames without end": lambda: Counting(b"", then=EMPTY_FRAME),
    "empty blocks without end": lambda: Counting(FRAME, then=b"\x00\x00\x00"),
    "a terabyte of one byte": lambda: Counting(
        FRAME, then=(1 << 1 | (128 * 1024) << 3).to_bytes(3, "little") + b"\0"
    ),
    "blocks of one byte": lambda: Counting(FRAME, then=(1 << 3).to_bytes(3, "little") + b"m"),
    "extended headers without end": lambda: Counting(begin(40_000, lambda _: pax(record("comment", "x" * 8_000)))),
    "empty long names without end": lambda: Counting(begin(40_000, lambda _: EMPTY_LONG_NAME)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_before_the_signature_is_refused_after_little_work(name: str) -> None:
    source = BOMBS[name]()
    with pytest.raises(Refused) as caught:
        TarBundle(source.read).signed_manifest()
    assert caught.value.code in (Code.LIMIT_EXCEEDED, Code.BUNDLE_MALFORMED)
    assert caught.value.why
    assert source.bytes <= UNSIGNED.compressed
    assert source.reads <= 4 * (UNSIGNED.blocks + UNSIGNED.frames)


@pytest.mark.parametrize("name", ["empty frames without end", "empty blocks without end"])
def test_the_refusal_of_a_bomb_has_a_code_of_its_own_and_names_the_limit(name: str) -> None:
    with pytest.raises(Refused) as caught:
        TarBundle(BOMBS[name]().read).signed_manifest()
    assert caught.value.code is Code.LIMIT_EXCEEDED
    assert "the limit until its signature is verified" in caught.value.why


def test_a_dropped_file_with_a_hole_of_a_terabyte_is_refused_after_little_work(tmp_path: Path) -> None:
    """Zeros are empty blocks: a sparse file of 4 KiB on the disk is a frame that does not end."""
    path = tmp_path / "x.tar.zst"
    path.write_bytes(FRAME)
    os.truncate(path, 1024**4)
    directory = OpenDirectory(tmp_path, Disk())
    opened = DroppedFile(directory, path.name).open()
    try:
        with pytest.raises(Refused, match="cost") as caught:
            opened.bundle().signed_manifest()
        assert caught.value.code is Code.LIMIT_EXCEEDED
    finally:
        opened.close()
        directory.close()


def verified(bomb: Counting, manifest: Manifest) -> Iterator[bytes]:
    """Everything in a bundle whose signature holds."""
    bundle = TarBundle(bomb.read)
    bundle.signed_manifest()
    bundle.verified(manifest)
    yield from bundle.index(manifest.index_size)
    for _, _, content in bundle.files():
        yield from content


AFTER: dict[str, Callable[[], Counting]] = {
    "empty frames without end": lambda: Counting(squeeze(archives.signed()), then=EMPTY_FRAME),
    "empty blocks without end": lambda: Counting(squeeze(archives.signed()) + FRAME, then=b"\x00\x00\x00"),
    "a gigabyte of zeros in one file": lambda: Counting(
        squeeze(archives.signed() + archives.header("files/app.py", 8**11 - 1)) + rle_frame(b"\0", 8_192)
    ),
    "empty files without end": lambda: Counting(
        squeeze(archives.signed() + member("files/app.py", b"") * 100_000 + END)
    ),
    "files without end": lambda: Counting(squeeze(archives.signed() + member("files/a", b"x" * 9_000) * 10_000)),
}


@pytest.mark.parametrize("name", AFTER)
def test_a_bomb_behind_a_signed_manifest_is_refused_by_the_signed_sizes(name: str) -> None:
    source, manifest = AFTER[name](), manifest_in()
    most, sizes = signed_allowance(manifest), []
    with pytest.raises(Refused) as caught:
        sizes.extend(len(piece) for piece in verified(source, manifest))
    assert caught.value.code is Code.LIMIT_EXCEEDED
    assert "the limit for the sizes that were signed" in caught.value.why
    assert (sum(sizes) <= most.unfolded, source.bytes <= most.compressed) == (True, True)


@pytest.mark.parametrize("level", [1, 3, 19])
def test_an_honest_bundle_of_many_small_files_stays_far_within_the_budget(level: int) -> None:
    tree: archives.Tree = {f"{'d' * 90}/{'e' * 90}/{n:05}": os.urandom(n % 700) for n in range(3_000)}
    tar = archives.signed(tree) + archives.payload(tree) + END
    manifest = manifest_in(tree)
    for raw in (
        squeeze(tar, level=level),
        b"".join(squeeze(tar[at : at + 3_000]) for at in range(0, len(tar), 3_000)),
    ):
        assert sum(1 for _ in verified(Counting(raw, most=len(raw)), manifest)) > 3_000


def test_an_empty_release_with_the_longest_paths_stays_within_the_budget() -> None:
    path = "/".join(["é" * 120] * 4)
    tree: archives.Tree = {f"{path}/{n:04}": b"" for n in range(1_000)}
    members = [
        pax(record("path", f"files/{one}"), record("mtime", "1.5")) + member("x", b"") for one in sorted(tree)
    ]
    raw = squeeze(archives.signed(tree) + b"".join(members) + END)
    assert list(verified(Counting(raw), manifest_in(tree)))


class Ticking:
    """A processor that spends `step` seconds each time it is asked."""

    def __init__(self, step: float) -> None:
        self._step, self._now = step, 0.0

    def __call__(self) -> float:
        self._now += self._step
        return self._now


def test_processor_time_is_limited_before_the_signature() -> None:
    bundle = TarBundle(io.BytesIO(archives.honest()).read, budget=Budget(processor=Ticking(0.2)))
    with pytest.raises(Refused) as caught:
        bundle.signed_manifest()
    assert (
        caught.value.why == "it has more than 500 ms of processor time, the limit until its signature is verified"
    )


def test_time_that_the_thread_spends_elsewhere_does_not_count() -> None:
    processor = SimpleNamespace(now=0.0)
    budget = Budget(processor=lambda: processor.now)
    for _ in range(100):
        with budget.running():
            processor.now += 0.001
            budget.block()
        processor.now += 1_000.0
    with budget.running():
        processor.now += 0.5
        with pytest.raises(Refused):
            budget.block()


def test_a_member_has_few_extended_headers() -> None:
    raw = pax(record("comment", "x")) * 5 + member("a", b"x") + END
    with pytest.raises(Problem, match="more than 4 extended headers"):
        TarReader(io.BytesIO(raw).read).next()
    assert TarReader(io.BytesIO(raw[2 * 512 * 1 :]).read).next() == ("a", 1)


def test_a_dropped_index_with_an_endless_line_is_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "tree.index.jsonl").write_bytes(b"[" + b"[]," * 100_000)
    directory = OpenDirectory(tmp_path, Disk())
    lines = DroppedFolder(directory).open().bundle().index(300_001)
    with pytest.raises(Problem, match="longer than two paths"):
        next(lines)
    directory.close()


# --- regular expressions -----------------------------------------------------------------------------------------

FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
REPOSITORY = Path(__file__).parents[2]
PARSER = import_module("re._parser")
BUILT = {"routes.py"}
"""Files that build an expression, from constants of their own."""


def expressions() -> Iterator[tuple[str, str | bytes]]:
    """The place and text of each regular expression in the product that is written as one constant."""
    for path in sorted([*REPOSITORY.glob("agent/**/*.py"), *REPOSITORY.glob("pusher/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
            if not call or node.func.attr not in FUNCTIONS or ast.unparse(node.func.value) != "re":
                continue
            first = node.args[0]
            text = first.value if isinstance(first, ast.Constant) else None
            if text is None:
                assert path.name in BUILT, f"{path}:{node.lineno}: its text cannot be checked"
                continue
            yield f"{path.relative_to(REPOSITORY)}:{node.lineno}", text


def nested(parsed: object, *, within: bool = False) -> bool:
    """Whether a repetition without a limit, or a long one, is in another. Possessive ones never go back."""
    for operation, value in parsed:  # type: ignore[attr-defined]
        name, inside = str(operation), within
        if name in ("MAX_REPEAT", "MIN_REPEAT") and value[1] > 100:
            if within:
                return True
            inside = True
        parts = value if isinstance(value, tuple | list) else (value,)
        flat = [one for part in parts for one in (part if isinstance(part, list) else [part])]
        if any(nested(one, within=inside) for one in flat if type(one).__name__ == "SubPattern"):
            return True
    return False


def test_the_check_finds_nested_repetitions() -> None:
    bad = ["(a*)*", "(?:a+|b)*", "(x(a{1,1000})y)+", "((?:a*?b)+)"]
    assert [nested(PARSER.parse(one)) for one in bad] == [True] * 4
    good = ["a*b*", "(a|b)*", "(?:a{3}b)*", "(?:a*+b)*"]
    assert [nested(PARSER.parse(one)) for one in good] == [False] * 4


def test_no_regular_expression_of_the_product_has_nested_repetitions() -> None:
    found = dict(expressions())
    assert len(found) > 30
    assert [place for place, text in found.items() if nested(PARSER.parse(text))] == []


def test_an_environment_file_with_many_blanks_is_read_in_one_pass() -> None:
    blanks = " " * 150_000
    assert parse_environment_file(f"A=x{blanks}y{blanks}\nB=2\n", file="f") == {"A": f"x{blanks}y", "B": "2"}


def test_a_blank_behind_a_backslash_belongs_to_the_value_of_an_environment_file() -> None:
    text = "A=x\\ \t \nB=x\\\\ \nC=\\ \nD= \nE=a\\\nb \n"
    expected = {"A": "x ", "B": "x\\", "C": " ", "D": "", "E": "ab"}
    assert parse_environment_file(text, file="f") == expected
