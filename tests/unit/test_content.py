"""Releases on disk: content is found by its digest, and damage is found."""

import io
import os
from pathlib import Path

import pytest

from agent.host.releases.content import Content, intact
from tests.hostile import archives
from tests.hostile.archives import TREE, honest
from tests.hostile.receiving import Receiver


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path)


@pytest.fixture
def release(receiver: Receiver) -> Path:
    """A kept release with everything of TREE."""
    return _receive(receiver, honest(), "kept")


def _receive(receiver: Receiver, raw: bytes, name: str) -> Path:
    return receiver.receive(io.BytesIO(raw).read, name)[0]


def test_an_intact_release_has_no_difference(receiver: Receiver, release: Path) -> None:
    assert intact(release) == ""
    (release / "venv").symlink_to("../../shared/venvs/abc")
    (release / "uploads").symlink_to("../../shared/uploads")
    (release / "lib/cache").mkdir()
    assert intact(release, shared=["uploads", "lib/cache"]) == ""
    assert intact(release, shared=["lib/cache"]) == "uploads does not belong to it"
    assert intact(release, extra=False) == ""


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda tree: (tree / "app.py").write_bytes(b"app = 2\n"), "app.py has changed"),
        (lambda tree: (tree / "app.py").write_bytes(b"app"), "app.py has changed"),
        (lambda tree: (tree / "app.py").chmod(0o755), "app.py has changed"),
        (lambda tree: (tree / "app.py").unlink(), "app.py is missing"),
        (lambda tree: _replace(tree / "app.py").symlink_to("run"), "app.py has changed"),
        (lambda tree: _replace(tree / "app.py").mkdir(), "app.py has changed"),
        (lambda tree: os.mkfifo(_replace(tree / "app.py")), "app.py has changed"),
        (lambda tree: _replace(tree / "latest").symlink_to("run"), "latest has changed"),
        (lambda tree: _replace(tree / "latest").write_text("lib/data.bin"), "latest has changed"),
        (lambda tree: _replace(tree / "latest"), "latest is missing"),
        (lambda tree: (tree / "lib").rename(tree / "was"), "lib/data.bin is missing"),
        (lambda tree: _as_link(tree / "lib"), "lib does not belong to it"),
        (lambda tree: (tree / "lib/more.py").touch(), "lib/more.py does not belong to it"),
        (lambda tree: (tree / "lib/venv").touch(), "lib/venv does not belong to it"),
        (lambda tree: (tree / ".pusher/manifest.json").unlink(), "its signed manifest is damaged"),
        (lambda tree: (tree / ".pusher/manifest.json").write_text("{}"), "its signed manifest is damaged"),
        (lambda tree: (tree / ".pusher/index.jsonl").write_text("{}\n"), "its signed manifest is damaged"),
        (lambda tree: (tree / ".pusher/index.jsonl").unlink(), "its signed manifest is damaged"),
        (lambda tree: _shorten(tree / ".pusher/index.jsonl"), "its signed manifest is damaged"),
    ],
)
def test_the_first_difference_is_named(receiver: Receiver, release: Path, damage: object, says: str) -> None:
    damage(release)  # type: ignore[operator]
    assert intact(release).startswith(says)


def test_a_file_that_cannot_be_read_is_a_difference(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = os.open

    def failing(path: Path | str, *how: object, **more: object) -> int:
        if path == f"{release}/app.py":
            raise OSError(5, "Input/output error")
        return opening(path, *how, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", failing)
    assert intact(release) == "app.py cannot be read: Input/output error"


def test_content_is_found_newest_first_and_only_what_is_wanted(receiver: Receiver, release: Path) -> None:
    newer = _receive(receiver, honest(), "newer")
    digest = {one.path: one.sha256 for one in archives.entries(TREE) if hasattr(one, "sha256")}
    found = Content([newer, receiver.staging / "missing", release])
    assert digest["app.py"] in found
    assert "0" * 64 not in found
    assert list(found.copies(digest["lib/über/naïve.txt"])) == [
        f"{newer}/lib/über/naïve.txt",
        f"{release}/lib/über/naïve.txt",
    ]
    assert list(found.copies("0" * 64)) == []
    only = Content([newer], wanted={digest["run"]})
    assert digest["run"] in only
    assert digest["app.py"] not in only


def test_a_damaged_index_offers_what_can_be_read_of_it(receiver: Receiver) -> None:
    tree = {"requirements.txt": b"r", 'quo"te\\d\n': b"q", "z": b"z"}
    release = _receive(receiver, honest(tree), "kept")
    index = release / ".pusher/index.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    damaged = lines[0].replace(b'quo\\"te', b"\\xquote")
    index.write_bytes(b"no line\n" + damaged + lines[1].replace(b"requ", b"\xff") + b"".join(lines))
    assert list(Content([release]).copies(_digest(tree, 'quo"te\\d\n'))) == [f'{release}/quo"te\\d\n']


def _digest(tree: archives.Tree, path: str) -> str:
    return next(one.sha256 for one in archives.entries(tree) if one.path == path)  # type: ignore[union-attr]


def _replace(path: Path) -> Path:
    path.unlink()
    return path


def _as_link(folder: Path) -> None:
    folder.rename(folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")


def _shorten(index: Path) -> None:
    index.write_bytes(b"".join(index.read_bytes().splitlines(keepends=True)[:-1]))
