"""What can be sent: a version, a bundle file, a folder."""

from pathlib import Path

import pytest

from pusher.bundle.source import BundleFile, Folder, locate, versions
from pusher.errors import Usage


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("app-src/v1", "app-src/v2", "app-src/no version", "other/v9", "v1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "app-src/notes.txt").touch()
    (tmp_path / "flask-demo-v1.tar.zst").touch()
    monkeypatch.chdir(tmp_path)
    return Path("app-src")


def test_a_version_is_a_folder_of_the_source(source: Path) -> None:
    assert versions(source) == ["v1", "v2"]
    assert locate("v2", source=source) == Folder(Path("app-src/v2"), "v2")


def test_a_version_comes_before_a_folder_here(source: Path) -> None:
    assert locate("v1", source=source) == Folder(Path("app-src/v1"), "v1")
    assert locate("./v1", source=source) == Folder(Path("v1"), "v1")


def test_a_file_is_a_bundle(source: Path) -> None:
    assert locate("flask-demo-v1.tar.zst", source=source) == BundleFile(Path("flask-demo-v1.tar.zst"))


def test_a_folder_has_its_name_for_a_version(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate("other/v9/", source=source) == Folder(Path("other/v9"), "v9")
    monkeypatch.chdir("other/v9")
    assert locate(".", source=Path("..")) == Folder(Path("."), "v9")


def test_a_folder_whose_name_is_no_version_is_named(source: Path) -> None:
    with pytest.raises(Usage, match=r"cannot be sent: 'no version' is not a version.* Rename the folder"):
        locate("app-src/no version", source=source)
    with pytest.raises(Usage, match=r"app-src/no version cannot be sent: .* Rename the folder"):
        locate("no version", source=source)
    assert locate("no version", source=source, named="v3") == Folder(Path("app-src/no version"), "v3")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("v22", r"app-src has no version 'v22', and no file of that name\. Did you mean v2\?"),
        ("x", r"and no file of that name\. Available: v1, v2$"),
        ("~nobody-here/x", r"and no file of that name\. Available"),
        ("x" * 300, r"and no file of that name\. Available"),
        ("other", r"app-src has no version 'other'\. To send the folder itself: \./other"),
    ],
)
def test_a_missing_version_is_named_with_the_available_ones(source: Path, what: str, message: str) -> None:
    with pytest.raises(Usage, match=message):
        locate(what, source=source)


def test_a_missing_source_folder_is_named(source: Path) -> None:
    with pytest.raises(
        Usage,
        match=r"nowhere has no version .*: nowhere is not a folder.* Name the folder of the versions with",
    ):
        locate("v1x", source=Path("nowhere"))


def test_an_unreadable_path_counts_as_missing(as_nobody: Path) -> None:
    (as_nobody / "closed").mkdir(0)
    for source in (as_nobody, as_nobody / "closed/app-src"):
        with pytest.raises(Usage, match=r"has no version .*closed/v1"):
            locate(f"{as_nobody}/closed/v1", source=source)
