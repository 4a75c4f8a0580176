"""Wheels of projects whose version, or code, git has: from work trees of every kind, and within its hooks."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.config import Dependencies
from pusher.dependencies.prepare import prepare
from pusher.errors import Usage
from tests.packages import wheel

BACKEND = """
import os, subprocess, zipfile
def build_wheel(folder, *_, **__):
    version = {version}
    info, file = f"shop-{{version}}.dist-info", f"shop-{{version}}-py3-none-any.whl"
    members = {{
        "shop.py": "",
        f"{{info}}/METADATA": f"Metadata-Version: 2.1\\nName: shop\\nVersion: {{version}}\\n",
        f"{{info}}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{{info}}/RECORD": "",
    }}
    with zipfile.ZipFile(os.path.join(folder, file), "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return file
"""
DESCRIBED = (
    'subprocess.run(["git", "describe", "--tags", "--dirty"], capture_output=True, check=True)'
    ".stdout.decode().strip()"
)
BUILD = '[build-system]\nrequires = []\nbuild-backend = "back"\nbackend-path = ["."]\n'


def git(folder: Path, *words: str) -> str:
    named = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    argv = ("git", "-C", str(folder), *named, *words)
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def nothing_built_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project that takes its version from git: 1.2."""
    made = tmp_path / "repository"
    made.mkdir()
    (made / "back.py").write_text(BACKEND.format(version=DESCRIBED))
    (made / "pyproject.toml").write_text(f'[project]\nname = "shop"\ndynamic = ["version"]\n{BUILD}')
    git(made, "init", "-q")
    git(made, "add", ".")
    git(made, "commit", "-qm", "first")
    git(made, "tag", "1.2")
    return made


def wheels(folder: Path) -> list[str]:
    return [one.path for one in prepare(folder, wanted=Dependencies()).tree.files if one.path.endswith(".whl")]


def in_repository(repository: Path) -> Path:
    return repository


def in_further_work_tree(repository: Path) -> Path:
    git(repository, "worktree", "add", "-q", "--detach", str(repository.parent / "further"))
    return repository.parent / "further"


def in_submodule(repository: Path) -> Path:
    (repository.parent / "main").mkdir()
    git(repository.parent / "main", "init", "-q")
    git(repository.parent / "main", "submodule", "--quiet", "add", str(repository), "inner")
    return repository.parent / "main/inner"


@pytest.mark.parametrize("place", [in_repository, in_further_work_tree, in_submodule])
def test_a_version_that_git_tells_is_known_in_every_kind_of_work_tree(repository: Path, place) -> None:
    assert wheels(place(repository)) == ["wheels/shop-1.2-py3-none-any.whl"]


@pytest.mark.parametrize("place", [in_repository, in_further_work_tree])
def test_a_build_that_asks_git_writes_nothing_into_the_repository(repository: Path, place) -> None:
    """`git describe --dirty` writes the index anew; and git itself writes down where a further work tree lies."""
    folder = place(repository)
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    for file in repository.glob(".git/**/gitdir"):
        os.utime(file, (1, 1))  # git corrects it after a day
    backend = (folder / "back.py").read_text()
    eager = backend.replace("capture", 'env={**os.environ, "GIT_OPTIONAL_LOCKS": "1"}, capture')
    (folder / "back.py").write_text(eager)
    git(folder, "commit", "-qam", "second")
    git(folder, "tag", "-f", "1.3")
    before = {file: file.read_bytes() for file in repository.rglob("*") if file.is_file()}
    assert wheels(folder) == ["wheels/shop-1.3-py3-none-any.whl"]
    assert {file: file.read_bytes() for file in repository.rglob("*") if file.is_file()} == before


def test_in_a_hook_of_git_the_folder_decides_which_repository_is_asked(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", ".")
    assert wheels(repository) == ["wheels/shop-1.2-py3-none-any.whl"]
    git(repository, "--git-dir=.git", "tag", "1.3", "-m", "annotated, so it counts more")
    assert wheels(repository) == ["wheels/shop-1.3-py3-none-any.whl"]


@pytest.fixture
def wanting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A version that needs a package from git, whose code lies in a submodule in part."""
    for name, value in (("COUNT", "1"), ("KEY_0", "protocol.file.allow"), ("VALUE_0", "always")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    for name in ("inner", "shop", "version"):
        (tmp_path / name).mkdir()
    git(tmp_path / "inner", "init", "-q")
    (tmp_path / "inner/number").write_text("7\n")
    git(tmp_path / "inner", "add", ".")
    git(tmp_path / "inner", "commit", "-qm", "first")
    (tmp_path / "shop/back.py").write_text(BACKEND.format(version='open("inner/number").read().strip()'))
    (tmp_path / "shop/pyproject.toml").write_text(f'[project]\nname = "shop"\ndynamic = ["version"]\n{BUILD}')
    git(tmp_path / "shop", "init", "-q")
    git(tmp_path / "shop", "submodule", "--quiet", "add", str(tmp_path / "inner"), "inner")
    git(tmp_path / "shop", "add", ".")
    git(tmp_path / "shop", "commit", "-qm", "first")
    lock(tmp_path / "version", f"file://{tmp_path}/shop", git(tmp_path / "shop", "rev-parse", "HEAD").strip())
    return tmp_path / "version"


def lock(folder: Path, url: str, commit: str) -> None:
    (folder / "Pipfile.lock").write_text(f'{{"default": {{"shop": {{"git": "{url}", "ref": "{commit}"}}}}}}')


def test_a_package_from_git_has_its_submodules(wanting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", ".")
    assert wheels(wanting) == ["wheels/shop-7-py3-none-any.whl"]


def test_without_git_a_package_from_it_says_what_to_install(
    wanting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(wanting))
    with pytest.raises(Usage, match="shop cannot be packed: git cannot be run") as refused:
        wheels(wanting)
    assert refused.value.hint == "Install git"


def test_a_login_in_the_address_of_a_repository_is_not_shown(wanting: Path) -> None:
    lock(wanting, "https://me:s3cr@t@127.0.0.1:1/shop.git", "abc")
    with pytest.raises(Usage, match=r"https://127\.0\.0\.1:1/shop\.git does not give abc") as refused:
        wheels(wanting)
    assert "s3cr" not in f"{refused.value} {refused.value.output}"


def test_wheels_that_git_does_not_track_travel_if_the_lock_names_them(tmp_path: Path) -> None:
    """`wheels/` is in GitHub's .gitignore for Python."""
    (tmp_path / "wheels").mkdir()
    for name in ("tiny", "other"):
        (tmp_path / f"wheels/{name}-1-py3-none-any.whl").write_bytes(wheel(name))
    (tmp_path / "requirements.txt").write_text("tiny\n")
    found = prepare(tmp_path, wanted=Dependencies(), tracked={"requirements.txt"})
    assert [one.path for one in found.tree.files] == [
        "pylock.toml",
        "requirements.txt",
        "wheels/tiny-1-py3-none-any.whl",
    ]


ENDLESS = """
import os, time
def build_wheel(*_, **__):
    uv = os.getppid()
    open({begun!r}, "w").close()
    while os.getppid() == uv:
        time.sleep(0.05)
"""


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A version whose wheel is never ready; the pipe `begun` beside it is opened when it is being built."""
    os.mkfifo(tmp_path / "begun")
    for folder in ("v1", "made"):
        (tmp_path / folder).mkdir()
    (tmp_path / "v1/back.py").write_text(ENDLESS.format(begun=str(tmp_path / "begun")))
    (tmp_path / "v1/pyproject.toml").write_text(f'[project]\nname = "shop"\nversion = "1"\n{BUILD}')
    return tmp_path / "v1"


def pusher(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """The command as a process, with the folder `made` for its temporary files."""
    # These tests may run under nohup, and each program inherits that.
    python = ("env", "--default-signal=HUP", sys.executable)
    argv = (*python, "-m", "pusher", words[0], str(folder), "--app", "shop", *words[1:])
    environment = {**os.environ, "TMPDIR": str(folder.parent / "made")}
    return subprocess.Popen(argv, cwd=folder.parent, env=environment, stderr=subprocess.PIPE, text=True)


def left(folder: Path) -> list[Path]:
    return [*(folder.parent / "made").iterdir(), *(folder.parent / "cache/pusher").glob(".*")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_the_command_from_outside_leaves_nothing_behind(endless: Path, number: signal.Signals) -> None:
    """As a job that is cancelled, or a terminal that is closed, while a wheel is built."""
    with pusher(endless, "pack") as process:
        (endless.parent / "begun").read_text()
        process.send_signal(number)
        assert process.stderr is not None
        said = process.wait(30), process.stderr.readline(), process.stderr.readline()
    assert said == (130, "\n", "pusher: Interrupted\n")
    assert not left(endless)


def test_another_ctrl_c_while_it_ends_shows_no_traceback() -> None:
    script = (
        "import os, signal, sys, weakref\nfrom pusher.__main__ import command\n"
        "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "    weakref.finalize(command, os.kill, os.getpid(), number)\n"
        "sys.argv = ['pusher', 'send', '--no-such-option']\ncommand()\n"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_host_that_cannot_be_reached_while_a_wheel_is_built_leaves_nothing_behind(endless: Path) -> None:
    (ssh := endless.parent / "ssh").write_text(f"#!/bin/sh\ncat {endless.parent}/begun\nexit 255\n")
    ssh.chmod(0o755)
    with pusher(endless, "send", "--host", "web1", "--ssh", str(ssh)) as process:
        assert process.wait(30) == 5
    assert not left(endless)
