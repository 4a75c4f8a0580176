"""The commit that a bundle comes from: git says it, and what differs is counted."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from pusher.bundle.commit import source_of, without_login
from tests.unit.scripted_agent import Run

FILES = {"app.py", "kept.py"}


def git(folder: Path, *words: str) -> str:
    named = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(("git", "-C", str(folder), *named, *words), check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A committed version, in a subfolder of its repository."""
    made = tmp_path / "repository/app-src/v3"
    made.mkdir(parents=True)
    for name in FILES:
        (made / name).write_text(f"this is {name}\n")
    git(tmp_path / "repository", "init", "-q")
    git(made, "add", ".")
    git(made, "commit", "-qm", "first")
    return made


def test_a_tree_as_it_was_committed_has_its_commit_and_no_change(folder: Path) -> None:
    found = source_of(folder, FILES)
    assert found is not None
    assert (found.commit, found.changed) == (git(folder, "rev-parse", "HEAD"), 0)


def test_what_was_edited_staged_added_ignored_or_deleted_counts_as_changed(folder: Path) -> None:
    (folder / "app.py").write_text("edited")
    (folder / "new.py").write_text("staged")
    git(folder, "add", "new.py")
    (folder / ".gitignore").write_text("built\n")
    (folder / "built").write_text("ignored by git, and packed")
    (folder / "kept.py").unlink()
    found = source_of(folder, {"app.py", "new.py", ".gitignore", "built"})
    assert found is not None
    assert found.changed == 5


def test_changes_elsewhere_in_the_repository_do_not_count(folder: Path) -> None:
    (folder.parents[1] / "README").write_text("new")
    os.utime(folder / "app.py", (1, 1))
    found = source_of(folder, FILES)
    assert found is not None
    assert found.changed == 0


def test_without_a_repository_a_commit_or_git_there_is_no_source(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").mkdir()
    assert source_of(tmp_path / "plain", FILES) is None
    git(tmp_path / "plain", "init", "-q")
    assert source_of(tmp_path / "plain", FILES) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_of(folder, FILES) is None


def test_the_repository_around_the_folder_counts_also_in_a_hook_of_another(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other.git"))
    assert source_of(folder, FILES) is not None


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:secret@x.example/a@b", "https://x.example/a@b"),
        ("https://me:se@cret@x.example/a", "https://x.example/a"),
        ("ssh://git:se@cret@x.example/a", "ssh://x.example/a"),
        ("ssh://git@x.example/a", "ssh://git@x.example/a"),
        ("git@x.example:a", "git@x.example:a"),
    ],
)
def test_no_part_of_a_password_is_left_in_an_address(address: str, shown: str) -> None:
    assert without_login(address) == shown


def test_verify_shows_the_commit_and_all_signers(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    git(project, "init", "-q")
    git(project, "add", "app-src")
    git(project, "commit", "-qm", "first")
    commit = git(project, "rev-parse", "HEAD")
    assert pusher("pack", "v3") == 0
    assert pusher("verify", "flask-demo-v3.tar.zst") == 0
    said = capsys.readouterr().out
    assert f"source  commit {commit}" in said
    assert "every file as committed" in said
    (project / "app-src/v3/app.py").write_text("app = 1\n")
    assert pusher("pack", "v3") == 0
    assert pusher("verify", "flask-demo-v3.tar.zst") == 0
    assert "1 file differs from it" in capsys.readouterr().out
    assert pusher("verify", "flask-demo-v3.tar.zst", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["source"]["commit"], document["source"]["changed"]) == (commit, 1)
    assert len(document["signers"]) == 1
