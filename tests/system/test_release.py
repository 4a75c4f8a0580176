"""What is published: built twice the same from one commit, with checksums that anybody can verify."""

import hashlib
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.documents import REPOSITORY
from tests.host import make_key
from tests.system.server import building

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="a Debian package is built on Debian")

Release = Callable[..., subprocess.CompletedProcess[str]]


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(("git", "-C", str(folder), *who, *words), check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A commit with everything as it lies here, and a dated section in the changelog."""
    listed = subprocess.run(
        ("git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path / "checkout"
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    version = next(
        line for line in (folder / "pyproject.toml").read_text().splitlines() if line.startswith("version")
    )
    dated = f"## [Unreleased]\n\n## [{version.split(chr(34))[1]}] - 2026-11-27"
    text = (folder / "CHANGELOG.md").read_text()
    if "] - 20" not in text:
        (folder / "CHANGELOG.md").write_text(text.replace("## [Unreleased]", dated, 1))
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    with (folder / ".git/info/exclude").open("a") as file:
        file.write(".venv\n")
    return folder


@pytest.fixture
def release(checkout: Path, tmp_path: Path) -> Release:
    make_key(tmp_path / "key")

    def run(*, key: str = str(tmp_path / "key")) -> subprocess.CompletedProcess[str]:
        words = ("packaging/release", key) if key else ("packaging/release",)
        return subprocess.run(words, cwd=checkout, capture_output=True, text=True, env=building())

    return run


def test_a_release_has_checksums_that_the_key_has_signed(checkout: Path, release: Release, tmp_path: Path) -> None:
    done = release()
    assert done.returncode == 0, done.stdout + done.stderr
    sums = (checkout / "dist/SHA256SUMS").read_bytes()
    found = dict(reversed(line.split("  ")) for line in sums.decode().splitlines())
    assert sorted(name.rpartition(".")[2] for name in found) == ["deb", "gz", "whl"]
    for name, digest in found.items():
        assert hashlib.sha256((checkout / "dist" / name).read_bytes()).hexdigest() == digest
    allowed = tmp_path / "allowed"
    allowed.write_text(f'me namespaces="pusher-files" {(tmp_path / "key.pub").read_text()}')
    verify = ("ssh-keygen", "-Y", "verify", "-f", str(allowed), "-I", "me", "-n", "pusher-files")
    signature = ("-s", str(checkout / "dist/SHA256SUMS.sig"))
    subprocess.run((*verify, *signature), input=sums, check=True, capture_output=True)
    (wheel,) = (checkout / "dist").glob("*.whl")
    (sdist,) = (checkout / "dist").glob("*.tar.gz")
    assert "pusher/__main__.py" in zipfile.ZipFile(wheel).namelist()
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("/tests/unit/test_cli.py") for name in archive.getnames())
    again = release()
    assert again.returncode == 1
    assert "dist has a release already: dist/SHA256SUMS. Move it away." in again.stderr


def test_what_is_in_no_commit_is_not_released(checkout: Path, release: Release) -> None:
    (checkout / "agent/strange.py").write_text("")
    done = release()
    assert (done.returncode, (checkout / "dist").exists()) == (1, False)
    assert "The work tree differs from its commit." in done.stderr


def test_an_undated_changelog_is_not_released(checkout: Path, release: Release) -> None:
    text = (checkout / "CHANGELOG.md").read_text()
    (checkout / "CHANGELOG.md").write_text(text.replace("] - 20", "] of 20"))
    git(checkout, "commit", "--all", "--quiet", "--message", "undated")
    done = release()
    assert done.returncode == 1
    assert "CHANGELOG.md has no dated section for " in done.stderr


def test_a_key_is_needed(release: Release) -> None:
    for key, said in (
        ("", "usage: packaging/release KEY [FOLDER]"),
        ("/no/key", "The key /no/key cannot be read."),
    ):
        done = release(key=key)
        assert done.returncode == 1
        assert done.stderr.startswith(said)
