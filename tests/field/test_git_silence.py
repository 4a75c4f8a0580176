"""What git was told to keep quiet about is found all the same: a release is its commit, or says that it is not."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from pusher.bundle.archive import read_bundle
from pusher.bundle.commit import source_of
from tests.field.repository import WHO, commit, git
from tests.field.test_git import paths, said, shop
from tests.unit.scripted_agent import Run

__all__ = ["shop"]


@pytest.fixture
def library(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submodule of the shop, with a submodule of its own."""
    inner, outer = tmp_path_factory.mktemp("inner"), tmp_path_factory.mktemp("outer")
    commit(inner, {"deep.py": ""})
    commit(outer, {"lib.py": ""})
    for top, path, at in ((outer, inner, "nested"), (shop, outer, "lib/other")):
        git(top, "submodule", "add", "-q", str(path), at)
        git(top, "commit", "-q", "-m", "submodule")
    git(shop, "submodule", "update", "-q", "--init", "--recursive")
    return shop / "lib/other"


@pytest.mark.parametrize(
    ("mark", "end"),
    [("--assume-unchanged", "--no-assume-unchanged"), ("--skip-worktree", "--no-skip-worktree")],
)
def test_a_file_that_git_was_told_not_to_look_at_is_dirty_all_the_same(
    shop: Path, pusher: Run, capsys: pytest.CaptureFixture[str], mark: str, end: str
) -> None:
    """Months ago I hid my local settings from `git status`; they do not go live as if they were the commit."""
    git(shop, "update-index", mark, "app.py")
    assert pusher("pack", ".") == 0
    (shop / "app.py").write_text("DEBUG = True\n")
    assert git(shop, "status", "--porcelain", "--untracked-files=no") == ""
    capsys.readouterr()
    assert pusher("pack", ".") == 2
    text = said(capsys)
    assert text == (
        "pusher: . is not as it was committed: 1 file differs from the last commit: app.py\n"
        "  git is silent about app.py, because it was told not to look at it. To end that: "
        f"git update-index {end} app.py, or send it as it is: --dirty\n"
    )
    argv = shlex.split(text.partition("To end that: ")[2].partition(",")[0])
    subprocess.run(argv, cwd=shop, check=True, env={**os.environ, **WHO})
    assert git(shop, "status", "--porcelain", "--untracked-files=no") == "M app.py"
    found = source_of(shop, {"app.py"})
    assert found is not None
    assert found.changed == 1


def test_a_sparse_checkout_is_named_with_the_way_out(
    shop: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """`git status` is clean and pusher says that files differ; I am told why."""
    commit(shop, {"static/a.css": "", "more/a.txt": ""})
    git(shop, "sparse-checkout", "set", "static")
    assert pusher("pack", ".") == 2
    assert said(capsys) == (
        "pusher: . is not as it was committed: 1 file differs from the last commit: more/a.txt\n"
        "  git is silent about it: this is a sparse checkout. To get its files: git sparse-checkout disable, "
        "or send it as it is: --dirty\n"
    )
    git(shop, "sparse-checkout", "disable")
    assert pusher("pack", ".") == 0


def test_one_service_in_a_sparse_checkout_is_whole(shop: Path, pusher: Run) -> None:
    """I have checked out only the service that I work on, and it is complete."""
    commit(shop, {"services/shop/app.py": "", "services/other/app.py": ""})
    (shop / "pusher.toml").write_text(f'root = "services/shop"\n{(shop / "pusher.toml").read_text()}')
    git(shop, "sparse-checkout", "set", "services/shop")
    assert pusher("pack") == 0
    (file,) = shop.glob("*.tar.zst")
    assert paths(read_bundle(file)) == ["app.py"]


@pytest.mark.parametrize("place", [".gitmodules", "config"])
def test_a_submodule_that_git_was_told_to_pass_over_is_looked_into(
    shop: Path, library: Path, pusher: Run, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    """`ignore = all` keeps my `git status` fast; what I edited in the submodule does not go live unseen."""
    if place == "config":
        git(shop, "config", "diff.ignoreSubmodules", "all")
    else:
        git(shop, "config", "-f", ".gitmodules", "submodule.lib/other.ignore", "all")
        git(shop, "commit", "-qam", "quiet")
    assert pusher("pack", ".") == 0
    capsys.readouterr()
    (library / "nested/deep.py").write_text("edited")
    assert git(shop, "status", "--porcelain", "--untracked-files=no") == ""
    assert pusher("pack", ".") == 2
    assert "1 file differs from the last commit: lib/other/nested/deep.py\n" in said(capsys)


def test_a_dirty_submodule_counts_in_what_is_signed(
    shop: Path, library: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The manifest says that the release is not its commit, also where only a submodule is not."""
    (library / "lib.py").write_text("edited")
    assert pusher("pack", ".", "--dirty", "-o", "out") == 0
    assert "sent as it is, not as committed: lib/other/lib.py\n" in said(capsys)
    assert pusher("verify", "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["source"]["changed"] == 1
    # Another commit of the submodule than the one that belongs to mine.
    commit(library, {"lib.py": "newer", "more.py": ""})
    assert pusher("pack", ".", "--dirty", "-o", "out") == 0
    assert "not as committed: lib/other/lib.py, lib/other/more.py\n" in said(capsys)
    # The commit that belongs to mine is not there: nobody can say which of its files differ.
    commit(shop, {})
    empty = git(library, "commit-tree", "-m", "unknown", "HEAD^{tree}")
    git(shop, "update-index", "--cacheinfo", f"160000,{empty[:-4]}0000,lib/other")
    git(shop, "commit", "-qm", "away")
    assert pusher("pack", ".", "--dirty", "-o", "out") == 0
    assert "not as committed: lib/other\n" in said(capsys)
    assert pusher("verify", "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["source"]["changed"] == 4


def test_a_folder_in_the_place_of_a_file_is_no_submodule(
    shop: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """I made a package of my module and have not committed that yet; nobody tells me about submodules."""
    (shop / "app.py").unlink()
    (shop / "app.py").mkdir()
    (shop / "app.py/x").touch()
    assert pusher("pack", ".") == 2
    assert "1 file differs from the last commit: app.py\n" in said(capsys)


def test_signed_commits_are_named_although_git_shows_signatures(
    shop: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I have git show me signatures always; the manifest names my commit all the same."""
    for name, value in (("gpg.format", "ssh"), ("user.signingKey", str(key)), ("log.showSignature", "true")):
        git(shop, "config", name, value)
    git(shop, "commit", "-q", "-S", "--allow-empty", "-m", "signed")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    found = source_of(shop, {"app.py"})
    assert found is not None
    assert found.commit == git(shop, "rev-parse", "HEAD")


@pytest.mark.skipif(not os.path.exists("/usr/share/locale/fr/LC_MESSAGES/git.mo"), reason="git speaks no French")
def test_git_is_understood_whatever_its_user_speaks(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """My git speaks French; pusher knows all the same that there is no commit yet."""
    monkeypatch.setenv("LANGUAGE", "fr")
    git(project, "init", "-q")
    assert pusher("pack") == 2
    assert "there is no commit yet\n  Commit first\n" in said(capsys)


@pytest.mark.parametrize("what", [".", "./"])
def test_a_bare_repository_is_not_sent(
    shop: Path,
    tmp_path_factory: pytest.TempPathFactory,
    pusher: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """On the server of my repositories I typed `pusher send .`: objects are no app, and `config` has tokens."""
    bare = tmp_path_factory.mktemp("bare")
    git(bare, "clone", "-q", "--bare", str(shop), str(bare / "shop.git"))
    monkeypatch.chdir(bare / "shop.git")
    assert pusher("pack", what, "--as", "v1", "--config", str(shop / "pusher.toml")) == 2
    assert said(capsys) == (
        f"pusher: {what} cannot be sent: it is a repository of git without files checked out\n"
        "  Clone it, and send the clone: git clone\n"
    )
