"""Pythons that root adds: unpacked by the real uv, from archives made here."""

import hashlib
import io
import json
import platform
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv

from agent.admin.app_setup import answer_of
from agent.admin.cli import run
from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.host.setup.managed_pythons import check_may_change, install, managed, remove
from agent.host.storage.disk import Disk
from pusher.wire import Code, Failed, Manifest, Problem, Refused

UV = Path(uv.find_uv_bin())
MACHINE = platform.machine()
ANSWER = """#!/bin/sh
echo "{version} (main, Nov 1 2026, 10:00:00) [GCC 12.2.0] cpython-313 $0"
echo linux-x86_64 cpython-313-x86_64-linux-gnu
"""

SYSCONFIG = "# system configuration generated and used by the sysconfig module\nbuild_time_vars = {}\n"


def archive(folder: Path, version: str = "3.13.0", *, build: str = "20241016", says: str = "") -> Path:
    """An archive with a program that answers as an interpreter would."""
    path = folder / f"cpython-{version}+{build}-{MACHINE}-unknown-linux-gnu-install_only_stripped.tar.gz"
    members = {
        "python/bin/python3.13": ANSWER.format(version=says or version),
        "python/lib/python3.13/_sysconfigdata__linux_x86_64-linux-gnu.py": SYSCONFIG,
    }
    with tarfile.open(path, "w:gz") as file:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.mode, member.size = 0o755, len(text)
            file.addfile(member, io.BytesIO(text.encode()))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Host:
    def __init__(self, root: Path) -> None:
        self.layout = HostLayout(root)

    def add(self, version: str, *, source: object = "", sha256: str = "") -> list[str]:
        return [
            *install(
                version,
                source=str(source),
                sha256=sha256,
                layout=self.layout,
                disk=Disk(),
                uv=UV,
                ask=answer_of,
            )
        ]

    def problem(self, version: str, *, source: object = "", sha256: str = "") -> Problem:
        before = sorted(self.names())
        with pytest.raises(Problem) as caught:
            self.add(version, source=source, sha256=sha256)
        assert sorted(self.names()) == before
        return caught.value

    def names(self) -> Iterator[str]:
        """What is in the folder, without what uv keeps there for itself."""
        if self.layout.pythons.is_dir():
            yield from (
                one.name for one in self.layout.pythons.iterdir() if one.name not in (".temp", ".gitignore")
            )

    def remove(self, name: str, **apps: AppConfig) -> list[str]:
        return [*remove(name, layout=self.layout, apps=apps, disk=Disk())]

    def release(self, app: AppConfig, python: Path) -> None:
        """A kept release whose venv was made with this Python."""
        layout = AppLayout(self.layout.beneath(app.path))
        release, venv = layout.release("20261123020055Z"), layout.venv("0" * 16)
        (release / ".pusher").mkdir(parents=True)
        manifest = Manifest(
            app="demo",
            version="v1",
            created=1_000,
            expires=2_000,
            index_sha256="0" * 64,
            index_size=0,
            files=0,
            unpacked_size=0,
        )
        (release / ".pusher/manifest.json").write_bytes(manifest.to_bytes())
        (release / "venv").symlink_to(f"../../shared/venvs/{venv.name}")
        venv.mkdir(parents=True)
        (venv / ".complete").write_text(json.dumps({"python": answer_of((str(python),))}))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "root")


def test_an_archive_with_a_digest_that_root_names_is_added(host: Host, tmp_path: Path) -> None:
    file = archive(tmp_path)
    said = host.add("3.13", source=file, sha256=digest(file))
    folder = host.layout.pythons / f"cpython-3.13.0-linux-{MACHINE}-gnu"
    assert said[0] == f"added Python 3.13.0: {folder}"
    assert 'python = "3.13"' in said[1]
    assert managed(host.layout) == {folder: "3.13.0"}
    assert [*host.names()] == [folder.name]
    assert host.add("3.13", source=file, sha256=digest(file)) == [f"Python 3.13.0 is here already: {folder}"]
    assert folder.stat().st_mode & 0o077 == 0o055


def test_an_archive_that_is_not_what_its_name_says_changes_nothing(host: Host, tmp_path: Path) -> None:
    file = archive(tmp_path)
    problem = host.problem("3.13.0", source=file)
    assert isinstance(problem, Failed)
    assert "Hash mismatch" in problem.why, "uv knows a build of that name"
    assert host.problem("3.13", source=file, sha256="0" * 64).code is Code.CONTENT_MISMATCH
    other = archive(tmp_path, build="20990101")
    unknown = host.problem("3.13.0", source=other)
    assert "its digest is not known" in unknown.why
    assert "--digest" in unknown.hint
    lying = archive(tmp_path, build="20990102", says="3.13.9")
    assert "it says that it is 3.13.9" in host.problem("3.13", source=lying, sha256=digest(lying)).why


@pytest.mark.parametrize(
    ("version", "name", "sha256", "why"),
    [
        ("3.12", "", "", "it is not Python 3.12"),
        ("3.13", "python.tar.gz", "", "it is not named as"),
        ("3.13", "cpython-3.13.0+20241016-riscv64-unknown-linux-gnu-install_only.tar.gz", "", "it is not for"),
        ("3.13", "", "abc", "64 hexadecimal digits"),
        ("latest", "", "", "'latest' is no version"),
        ("3", "", "", "'3' is no version"),
    ],
)
def test_what_cannot_be_added_is_refused(
    host: Host, tmp_path: Path, version: str, name: str, sha256: str, why: str
) -> None:
    file = archive(tmp_path)
    if name:
        file = file.rename(tmp_path / name)
    problem = host.problem(version, source=file, sha256=sha256)
    assert isinstance(problem, Refused)
    assert why in problem.why


def test_a_version_that_uv_does_not_know_is_refused(host: Host) -> None:
    assert host.problem("3.99").what == "There is no Python 3.99 to be added"
    assert "it needs an archive" in host.problem("3.13", sha256="0" * 64).why


def test_a_mirror_is_asked_for_the_build_whose_digest_uv_knows(host: Host, tmp_path: Path) -> None:
    (tmp_path / "mirror/20241016").mkdir(parents=True)
    archive(tmp_path / "mirror/20241016")
    assert "Hash mismatch" in host.problem("3.13.0", source=tmp_path / "mirror").why
    problem = host.problem("3.13.1", source=tmp_path / "mirror")
    assert "No such file" in problem.why
    assert "use --from FILE" in problem.hint


def test_a_python_is_removed_only_when_no_kept_release_needs_it(host: Host, tmp_path: Path) -> None:
    file = archive(tmp_path)
    host.add("3.13", source=file, sha256=digest(file))
    (folder,) = managed(host.layout)
    python = folder / "bin/python3.13"
    app = AppConfig(path="/opt/demo", user="demo")
    host.release(app, python)
    with pytest.raises(Refused, match=r"release 20261123020055Z \(\S+\) of demo needs it"):
        host.remove("3.13", demo=app)
    named = app.model_copy(update={"dependencies": app.dependencies.model_copy(update={"python": str(python)})})
    with pytest.raises(Refused, match="the file of demo needs it"):
        host.remove("3.13", demo=named)
    with pytest.raises(Refused, match=f"Available: {folder.name}"):
        host.remove("3.12")
    assert host.remove("3.13.0") == [f"removed {folder}"]
    assert managed(host.layout) == {}
    assert [*host.names()] == []


def test_of_several_patch_versions_one_must_be_named(host: Host, tmp_path: Path) -> None:
    for version in ("3.13.0", "3.13.1"):
        file = archive(tmp_path, version)
        host.add("3.13", source=file, sha256=digest(file))
    with pytest.raises(Refused, match="several are of this version"):
        host.remove("3.13")
    assert [*managed(host.layout).values()] == ["3.13.1", "3.13.0"]
    (older,) = (one for one, version in managed(host.layout).items() if version == "3.13.0")
    host.remove(older.name)
    assert [*managed(host.layout).values()] == ["3.13.1"]


def test_who_may_write_there_may_change_it(host: Host) -> None:
    host.layout.root.mkdir()
    check_may_change(host.layout)
    with pytest.raises(Refused, match="Only root"):
        check_may_change(HostLayout(Path("/proc/sys")))


def test_the_commands_say_what_is_there_and_who_needs_it(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, file = str(host.layout.root), archive(tmp_path)

    def said(*words: str) -> str:
        code = run([*words, "--root", root])
        return f"{code} {capsys.readouterr().out}"

    said("init", "--app", "demo")
    assert f"added Python 3.13.0: {host.layout.pythons}" in said(
        "python", "add", "3.13", "--from", str(file), "--digest", digest(file).upper()
    )
    (folder,) = managed(host.layout)
    host.release(AppConfig(path="/opt/demo", user="demo"), folder / "bin/python3.13")
    (first, *_) = said("python", "list").splitlines()
    assert first == f"0 3.13.0    {folder}/bin/python3.13  needed by release 20261123020055Z (v1) of demo"
    venv = AppLayout(host.layout.root / "opt/demo").venv("0" * 16)
    (venv / "bin").mkdir()
    (venv / "bin/python").symlink_to(folder / "bin/python3.13")
    assert "Python 3.13" not in said("check")
    (folder / "bin/python3.13").write_text(ANSWER.format(version="3.13.7"))
    assert "release 20261123020055Z was made with Python 3.13.0, and runs on 3.13.7" in said("check")
    shutil.rmtree(folder)
    lost = f"the venv of release 20261123020055Z (v1) is lost: Python 3.13.0 ({folder}/bin/python3.13) is gone"
    assert lost in said("check")
    with pytest.raises(Refused, match="there is no managed Python"):
        said("python", "remove", "3.13")
