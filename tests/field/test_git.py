"""A git checkout is sent as git has it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pusher.bundle.archive import Bundle, read_bundle
from pusher.bundle.commit import without_login
from tests.field.repository import commit, git
from tests.unit.scripted_agent import STATUS, Run, sent
from tests.unit.scripted_door import ScriptedDoor, answer

APP = {"app.py": "app = None\n", ".gitignore": "*.log\n"}


@pytest.fixture
def shop(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a repository with one commit, that has a pusher.toml."""
    shutil.rmtree(project / "app-src")
    commit(project, APP)
    for name in ("GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    return project


def packed(folder: Path) -> Bundle:
    """The one bundle file in a folder."""
    (file,) = folder.glob("*.tar.zst")
    found = read_bundle(file)
    file.unlink()
    return found


def paths(bundle: Bundle) -> list[str]:
    return [entry.path for entry in bundle.entries]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_what_git_tracks_is_sent_under_the_name_of_the_commit(
    shop: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pusher pack .` sends my commit, and tells me which files it does not know of."""
    (shop / "notes.txt").write_text("to do")
    (shop / "debug.log").write_text("ignored by git: not worth a word")
    assert pusher("pack", ".") == 0
    assert "left out, because git does not track it: notes.txt\n" in said(capsys)
    bundle = packed(shop)
    assert paths(bundle) == [".gitignore", "app.py", "pusher.toml"]
    assert bundle.manifest.version == git(shop, "describe", "--always")
    git(shop, "tag", "v1.2")
    assert pusher("pack") == 0
    assert packed(shop).manifest.version == "v1.2"


def test_branch_author_date_and_remote_are_signed_and_shown(
    shop: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """I see which commit is live, from which branch and repository, and no password of it."""
    git(shop, "remote", "add", "origin", "https://ci:s3cret@git.example.com/shop.git")
    assert pusher("pack", ".") == 0
    (file,) = shop.glob("*.tar.zst")
    capsys.readouterr()
    assert pusher("verify", str(file), "--json") == 0
    assert json.loads(capsys.readouterr().out)["source"] == {
        "commit": git(shop, "rev-parse", "HEAD"),
        "changed": 0,
        "branch": "main",
        "authored": "2026-11-20T09:30:00.000Z",
        "remote": "https://git.example.com/shop.git",
    }
    assert pusher("verify", str(file)) == 0
    text = said(capsys)
    for line in ("branch main", "authored 2026-11-20 09:30:00 (UTC)", "from https://git.example.com/shop.git"):
        assert f"          {line}\n" in text


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("git@git.example.com:shop.git", "git@git.example.com:shop.git"),
        ("ssh://git@git.example.com/shop.git", "ssh://git@git.example.com/shop.git"),
        ("ssh://git:pw@git.example.com/shop.git", "ssh://git.example.com/shop.git"),
        ("https://token@git.example.com/shop.git", "https://git.example.com/shop.git"),
        ("https://git.example.com/a@b.git", "https://git.example.com/a@b.git"),
        ("/srv/git/shop.git", "/srv/git/shop.git"),
    ],
)
def test_no_password_of_a_repository_travels(address: str, kept: str) -> None:
    """My access token stays here."""
    assert without_login(address) == kept


def test_a_dirty_tree_is_refused_unless_asked_for(
    shop: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """I am told that I forgot to commit; when I know, I can send it all the same."""
    (shop / "app.py").write_text("app = 1\n")
    assert pusher("pack", ".") == 2
    assert said(capsys) == (
        "pusher: . is not as it was committed: 1 file differs from the last commit: app.py\n"
        "  Commit or stash that, or send it as it is: --dirty\n"
    )
    assert pusher("pack", ".", "--dirty") == 0
    assert "sent as it is, not as committed: app.py\n" in said(capsys)
    bundle = packed(shop)
    assert bundle.manifest.version.endswith("-dirty")
    assert bundle.manifest.source is not None
    assert bundle.manifest.source.changed == 1


def test_a_deleted_file_and_a_sparse_checkout_are_dirty_too(shop: Path, pusher: Run, capsys: Any) -> None:
    """A release that lacks half of the files is not sent because git calls the tree clean."""
    git(shop, "update-index", "--skip-worktree", "app.py")
    (shop / "app.py").unlink()
    assert git(shop, "status", "--porcelain") == ""
    assert pusher("pack", ".") == 2
    assert "1 file differs from the last commit: app.py" in said(capsys)


@pytest.mark.parametrize("name", ["feature/login", "release/2026.11", "1.2.3-4-gabcdef0"])
def test_a_version_like_a_branch_works(shop: Path, pusher: Run, name: str) -> None:
    """A branch is a good name for a version."""
    assert pusher("pack", ".", "--as", name) == 0
    assert [file.name for file in shop.glob("*.zst")] == [f"flask-demo-{name.replace('/', '-')}.tar.zst"]
    assert packed(shop).manifest.version == name


def test_a_tag_that_is_no_version_is_named(shop: Path, pusher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """`@scope/pkg@1` is a tag here; I am told what to do."""
    git(shop, "tag", "@scope/pkg@1")
    assert pusher("pack", ".") == 2
    assert said(capsys) == (
        "pusher: . cannot be sent: '@scope/pkg@1' is not a version: up to 64 of letters, digits and . _ + - /, "
        "a letter or digit first, like v3 or feature/login\n  Name the version: --as NAME\n"
    )


def test_submodules_travel_and_a_missing_one_is_named(
    shop: Path, tmp_path_factory: pytest.TempPathFactory, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """A submodule is a part of my app; one that I have not fetched is not silently an empty folder."""
    other = tmp_path_factory.mktemp("other")
    commit(other, {"lib.py": ""})
    git(shop, "submodule", "add", "-q", str(other), "lib/other")
    git(shop, "commit", "-q", "-m", "submodule")
    assert pusher("pack", ".") == 0
    assert "lib/other/lib.py" in paths(packed(shop))
    (shop / "lib/other/lib.py").write_text("edited")
    assert pusher("pack", ".") == 2
    assert "1 file differs from the last commit: lib/other" in said(capsys)
    git(shop, "submodule", "deinit", "-q", "-f", "lib/other")
    assert pusher("pack", ".") == 2
    assert said(capsys) == (
        "pusher: The submodule lib/other is not there: its folder has no files of it\n"
        "  To get it: git submodule update --init --recursive\n"
    )


def test_a_pointer_of_git_lfs_is_refused(shop: Path, pusher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The logo of my shop is a picture, not three lines of text."""
    commit(shop, {"logo.png": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"})
    assert pusher("pack", ".") == 2
    assert said(capsys).startswith(
        "pusher: 'logo.png' cannot be packed: it is a pointer of Git LFS: its content is not here. To get it: "
        "git lfs pull\n"
    )


def test_one_service_of_a_monorepo_is_sent_alone(
    shop: Path, pusher: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other services of the repository neither travel nor make my tree dirty."""
    commit(shop, {"services/shop/app.py": "", "services/other/app.py": ""})
    (shop / "services/other/app.py").write_text("edited")
    config = (shop / "pusher.toml").read_text()
    (shop / "pusher.toml").write_text(f'root = "services/shop"\n{config}')
    monkeypatch.chdir(shop / "services/other")
    assert pusher("pack") == 0
    assert paths(packed(Path.cwd())) == ["app.py"]
    monkeypatch.chdir(shop / "services/shop")
    assert pusher("pack", ".") == 0
    assert paths(packed(Path.cwd())) == ["app.py"]
    (shop / "services/shop/pusher.toml").write_text(config)
    git(shop, "add", "services/shop/pusher.toml")
    git(shop, "commit", "-qm", "its own")
    assert pusher("pack") == 0
    assert paths(packed(Path.cwd())) == ["app.py", "pusher.toml"]


def test_a_built_file_that_git_ignores_travels_if_pusherignore_says_so(shop: Path, pusher: Run) -> None:
    """My bundled JavaScript is built before I deploy, and is in no commit."""
    commit(shop, {".gitignore": "dist/\n", ".pusherignore": "!/static/dist/**\n"})
    for name in ("static/dist/js/app.js", "other/dist/x.js"):
        (shop / name).parent.mkdir(parents=True)
        (shop / name).write_text("built")
    assert pusher("pack", ".") == 0
    assert paths(packed(shop)) == [".gitignore", "app.py", "pusher.toml", "static/dist/js/app.js"]


def test_the_workshops_way_stays(project: Path, pusher: Run) -> None:
    """A folder for each version, in a repository or not."""
    commit(project, {"x": ""})
    (project / "app-src/v3/new.py").write_text("not committed, and sent")
    config = (project / "pusher.toml").read_text()
    for text in (config, f'source = "app-src"\n{config}', f'{config}[source]\nversions = "app-src"\n'):
        (project / "pusher.toml").write_text(text)
        assert pusher("pack", "v3") == 0
        bundle = packed(project)
        assert (bundle.manifest.version, paths(bundle)) == ("v3", ["app.py", "new.py"])


def test_a_folder_that_is_called_git_makes_no_repository(project: Path, pusher: Run) -> None:
    """What an interrupted `git init` left does not keep me from sending the folder."""
    (project / ".git").mkdir()
    assert pusher("pack", ".", "--as", "v1") == 0
    assert "app-src/v3/app.py" in paths(packed(project))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "Nothing to send is named: this is not a git work tree"),
        (
            lambda folder: git(folder, "init", "-q"),
            "cannot be sent as git tracks it: there is no commit yet\n  Commit first\n",
        ),
    ],
)
def test_without_a_commit_there_is_a_sentence(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str], prepare: Any, message: str
) -> None:
    """`pusher send` without anything tells me what it needs."""
    prepare(project)
    assert pusher("pack") == 2
    assert message in said(capsys)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_repository_of_another_user_is_named_with_the_way_out(
    shop: Path, pusher: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container of CI, git trusts nobody; I am told which line to type."""
    monkeypatch.delenv("SUDO_UID", raising=False)
    for name in (shop, *shop.rglob("*")):
        os.lchown(name, 65534, 65534)
    assert pusher("pack", ".", "--config", "pusher.toml") == 2
    assert f"git config --global --add safe.directory {shop}" in said(capsys)


def test_an_agent_from_before_gets_the_commit_alone(
    shop: Path, door: ScriptedDoor, pusher: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """I can upgrade my own machine first."""
    history = {"records": 0, "hash": "", "problem": ""}
    for accepts, branch in (([], ""), (["origin", "folders"], "main")):
        door.requests.clear()
        door.on("GET", "/apps/flask-demo/status", answer({**STATUS, "history": history, "accepts": accepts}))
        pusher("send", ".", "--host", door.address)
        (bundle,) = sent(door, tmp_path_factory.mktemp("sent"))
        assert bundle.manifest.source is not None
        assert bundle.manifest.source.branch == branch
