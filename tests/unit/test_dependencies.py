"""What a folder depends on, as it is packed: with the real uv, which here has no network."""

import hashlib
import os
import pwd
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import uv

from pusher.config import Dependencies
from pusher.dependencies.cache import cache_folder, entry, write
from pusher.dependencies.choice import choose
from pusher.dependencies.named import named_packages
from pusher.dependencies.prepare import Prepared, prepare
from pusher.errors import Usage
from pusher.fleet.state import state_folder
from pusher.wire import Problem
from tests.packages import index, sdist, wheel

HASH = "a" * 64
BACKEND = """
import os, zipfile
def build_wheel(folder, *_, **__):
    name = next(line for line in open("pyproject.toml") if line.startswith("name")).split('"')[1].replace("-", "_")
    info, file = f"{name}-1.dist-info", f"{name}-1-py3-none-any.whl"
    members = {
        f"{name}/__init__.py": open(f"src/{name}/__init__.py").read(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(os.path.join(folder, file), "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return file
"""
BUILD = '[build-system]\nrequires = []\nbuild-backend = "back"\nbackend-path = ["."]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "v1"
    made.mkdir()
    return made


def project(folder: Path, name: str = "shop", *, needs: str = "[]", more: str = "") -> Path:
    """A project with a backend of its own, which needs no network."""
    (folder / f"src/{name}").mkdir(parents=True)
    (folder / f"src/{name}/__init__.py").write_text(f"NAME = {name!r}\n")
    (folder / "back.py").write_text(BACKEND)
    table = f'[project]\nname = "{name}"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = {needs}\n'
    (folder / "pyproject.toml").write_text(table + BUILD + more)
    return folder


def workspace(folder: Path) -> Path:
    sources = '[tool.uv.workspace]\nmembers = ["libs/*"]\n[tool.uv.sources]\nlib = { workspace = true }\n'
    project(folder, needs='["lib"]', more=sources)
    project(folder / "libs/lib", "lib")
    subprocess.run([uv.find_uv_bin(), "lock", "--quiet", "--offline"], cwd=folder, check=True)
    return folder


def packed(folder: Path, **wanted: Any) -> tuple[Prepared, dict[str, dict[str, Any]]]:
    """What is packed, and the packages of its lock by name."""
    found = prepare(folder, wanted=Dependencies(**wanted))
    raw = b"".join(part for one, content in found.tree.contents() if one.path == "pylock.toml" for part in content)
    return found, {one["name"]: one for one in tomllib.loads(raw.decode())["packages"]}


def test_a_folder_without_dependencies_is_packed_as_it_is(folder: Path):
    (folder / "app.py").write_text("")
    found = prepare(folder, wanted=Dependencies())
    assert ([one.path for one in found.tree.entries], found.notes) == (["app.py"], ())


def test_a_uv_workspace_travels_as_one_lock_with_wheels_of_its_members(folder: Path):
    found, packages = packed(workspace(folder))
    assert found.notes == ("dependencies: uv.lock, 2 packages, built here: lib, shop",)
    assert packages.keys() == {"lib", "shop"}
    made = {one.path: one.sha256 for one in found.tree.files if one.path.startswith("wheels/")}
    stated = {one["wheels"][0]["path"]: one["wheels"][0]["hashes"]["sha256"] for one in packages.values()}
    assert made == stated
    with zipfile.ZipFile(found.tree.made["wheels/lib-1-py3-none-any.whl"]) as archive:
        assert archive.read("lib/__init__.py") == b"NAME = 'lib'\n"
    assert not (folder / "wheels").exists()
    assert not (folder / "pylock.toml").exists()


def test_the_same_folder_gives_the_same_index_and_a_changed_module_another_wheel(folder: Path):
    first = packed(workspace(folder))[0].tree
    assert packed(folder)[0].tree.index == first.index
    (folder / "libs/lib/src/lib/__init__.py").write_text("NAME = 'other'\n")
    changed = packed(folder)[0].tree
    old, new = ({one.path: one.sha256 for one in tree.files} for tree in (first, changed))
    assert old["wheels/lib-1-py3-none-any.whl"] != new["wheels/lib-1-py3-none-any.whl"]


def test_a_uv_lock_that_does_not_fit_is_refused_with_the_line_that_mends_it(folder: Path):
    workspace(folder)
    file = folder / "pyproject.toml"
    file.write_text(file.read_text().replace('["lib"]', '["lib", "other"]'))
    with pytest.raises(Usage, match="does not fit its pyproject"):
        prepare(folder, wanted=Dependencies())


def test_one_member_of_a_workspace_can_be_deployed_and_so_can_its_folder_alone(folder: Path):
    workspace(folder)
    assert packed(folder, package="lib")[1].keys() == {"lib"}
    assert packed(folder / "libs/lib", file="../../uv.lock")[1].keys() == {"lib"}
    assert packed(folder / "libs/lib")[1].keys() == {"lib"}


def test_a_project_without_a_lock_is_built_and_can_be_left_out(folder: Path):
    project(folder)
    assert packed(folder)[1].keys() == {"shop"}
    assert packed(folder, project=False)[1] == {}


@pytest.mark.parametrize("line", [".", "-e .", "--editable ."])
def test_a_requirements_file_may_name_the_project_itself(folder: Path, line: str):
    project(folder)
    (folder / "requirements.txt").write_text(f"--no-cache-dir\n{line}\n")
    found, packages = packed(folder)
    assert packages.keys() == {"shop"}
    assert found.notes[1:] == ("requirements.txt, line 1: --no-cache-dir is passed over",)


def test_folders_on_pythons_path_take_the_place_of_a_wheel(folder: Path):
    found, packages = packed(project(folder), python_path=("src",))
    assert packages.keys() == {"pusher-python-path"}
    assert found.notes == ("dependencies: pyproject.toml, 0 packages, modules from src",)


def test_a_project_that_cannot_be_built_is_refused_with_its_backends_words(folder: Path):
    project(folder)
    (folder / "back.py").write_text("def build_wheel(*_, **__):\n    raise SystemExit('no compiler here')\n")
    with pytest.raises(Usage, match="The wheel of shop could not be built") as refused:
        prepare(folder, wanted=Dependencies())
    assert "project = false" in refused.value.hint
    assert "no compiler here" in refused.value.output


def test_exact_requirements_with_hashes_are_a_lock_without_asking_anybody(folder: Path):
    (folder / "more.txt").write_text(f"Click == 8.1 \\\n  --hash=sha256:{HASH} # why\n")
    (folder / "requirements.txt").write_text(
        "-r more.txt\n--require-hashes\n-i https://x.example/simple\n"
        f"flask[async]==3.0 ; os_name == 'posix' --hash=sha256:{HASH}\n"
    )
    found, packages = packed(folder)
    assert found.notes == ("dependencies: requirements.txt, 2 packages",)
    assert packages["flask"]["marker"] == 'os_name == "posix"'
    assert packages["click"]["tool"]["pusher"]["hashes"] == [f"sha256:{HASH}"]


def test_requirements_travel_as_they_are_where_no_index_can_be_asked(folder: Path):
    (folder / "requirements.txt").write_text("flask>=3\n")
    found = prepare(folder, wanted=Dependencies())
    assert [one.path for one in found.tree.entries] == ["requirements.txt"]
    assert "travels without a lock" in found.notes[0]


def test_wheels_of_the_release_are_named_by_path_and_hash(folder: Path):
    (folder / "wheels").mkdir()
    content = wheel("tiny")
    (folder / "wheels/tiny-1-py3-none-any.whl").write_bytes(content)
    for text in ("./wheels/tiny-1-py3-none-any.whl\n", "--find-links wheels\ntiny\n", "tiny\n"):
        (folder / "requirements.txt").write_text(text)
        (file,) = packed(folder)[1]["tiny"]["wheels"]
        assert (file["path"], file["hashes"]["sha256"]) == (
            "wheels/tiny-1-py3-none-any.whl",
            hashlib.sha256(content).hexdigest(),
        )


def test_a_source_archive_of_the_release_is_left_to_the_host_unless_wheels_are_wanted(folder: Path):
    (folder / "wheels").mkdir()
    (folder / "wheels/tiny-1.tar.gz").write_bytes(sdist("tiny"))
    (folder / "requirements.txt").write_text("tiny\n")
    found, packages = packed(folder)
    assert packages["tiny"]["sdist"]["path"] == "wheels/tiny-1.tar.gz"
    assert found.notes == ("dependencies: requirements.txt, 1 package",)
    assert packed(folder, wheels=True)[1]["tiny"]["wheels"][0]["path"] == "wheels/tiny-1-py3-none-any.whl"


def test_with_wheels_the_lock_is_for_one_python(folder: Path):
    (folder / "wheels").mkdir()
    (folder / "wheels/tiny-1-py3-none-any.whl").write_bytes(wheel("tiny"))
    (folder / "requirements.txt").write_text("./wheels/tiny-1-py3-none-any.whl\n")
    found, packages = packed(folder, wheels=True, python="3.12")
    assert (packages.keys(), found.notes) == (
        {"tiny"},
        ("dependencies: requirements.txt, 1 package, all as wheels",),
    )


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=4"'}, "There is no Python >=4"),
        ({"pyproject.toml": '[project]\nname = "x"\nrequires-python = "new"'}, "requires-python is 'new'"),
        (
            {"pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=3.12"', ".python-version": "3.11\n"},
            "needs Python >=3.12, and .python-version names 3.11",
        ),
        ({"requirements.txt": "\xff\xfe"}, "it is UTF-16"),
        ({"requirements.txt": "\xff"}, "it is not UTF-8"),
        ({"requirements.txt": "-r gone.txt"}, "gone.txt cannot be read"),
        ({"requirements.txt": "this is none"}, "cannot be decided"),
        ({"requirements.txt": "==2.0"}, "cannot be decided"),
        ({"pylock.toml": "["}, "is not TOML"),
        ({"pylock.toml": f"a = {'9' * 5000}"}, "is not TOML"),
        ({"pylock.toml": "\xff\xfe"}, "it is not UTF-8"),
        ({"pylock.toml": 'lock-version = "1.0"\n[[packages]]\nname = "x"'}, "x has no hashes"),
        ({"pyproject.toml": "["}, "is not TOML"),
        ({"uv.lock": "["}, "cannot be decided"),
        (
            {"requirements-a.txt": "", "requirements-b.txt": ""},
            'under [dependencies]: file = "requirements-a.txt"',
        ),
    ],
)
def test_what_cannot_be_decided_is_refused_on_the_sender(folder: Path, files: dict[str, str], why: str):
    for name, text in files.items():
        (folder / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(Problem) as refused:
        prepare(folder, wanted=Dependencies())
    assert why in f"{refused.value.what}: {refused.value.why} {refused.value.hint}"


def test_a_package_for_a_newer_python_is_refused_with_the_line_that_asks_for_that_python(folder: Path):
    (folder / "wheels").mkdir()
    (folder / "wheels/tiny-1-py3-none-any.whl").write_bytes(wheel("tiny", python=">=3.99"))
    (folder / "requirements.txt").write_text("--no-index\ntiny==1\n")
    with pytest.raises(Usage, match="tiny==1") as refused:
        prepare(folder, wanted=Dependencies())
    assert 'python = "3.99"' in refused.value.hint
    assert "pusher-agent python add 3.99" in refused.value.hint


def test_a_workspace_whose_lock_was_not_merged_is_named(folder: Path):
    workspace(folder)
    (folder / "uv.lock").write_text("<<<<<<< HEAD\n")
    with pytest.raises(Usage, match=r"v1/uv\.lock is not TOML"):
        prepare(folder / "libs/lib", wanted=Dependencies())


def test_requirements_that_include_each_other_are_read_once(folder: Path):
    for name, other in (("a", "b"), ("b", "a")):
        (folder / name).mkdir()
        (folder / name / "all.txt").write_text(f"-r ../{other}/all.txt\n{name}=={1} --hash=sha256:{HASH}\n")
    assert packed(folder, file="a/all.txt")[1].keys() == {"a", "b"}


def test_constraints_may_lie_on_a_web_server(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """As those of Airflow and OpenStack do."""
    monkeypatch.delenv("UV_OFFLINE")
    (folder / "wheels").mkdir()
    for version in ("1", "2"):
        (folder / f"wheels/tiny-{version}-py3-none-any.whl").write_bytes(wheel("tiny", version))
    with index({"limits.txt": b"tiny<2\n"}) as url:
        limits = url.replace("/simple", "/limits.txt")
        (folder / "requirements.txt").write_text(f"--no-index\n-c {limits}\ntiny\n")
        assert packed(folder)[1]["tiny"]["version"] == "1"


def test_what_a_project_beside_the_version_needs_is_decided_anew_when_that_changes(folder: Path):
    (folder / "wheels").mkdir()
    (folder / "wheels/tiny-1-py3-none-any.whl").write_bytes(wheel("tiny"))
    project(folder.parent / "lib", "lib")
    (folder / "requirements.txt").write_text("-e ../lib\n")
    assert packed(folder)[1].keys() == {"lib"}
    file = folder.parent / "lib/pyproject.toml"
    file.write_text(file.read_text().replace("dependencies = []", 'dependencies = ["tiny"]'))
    assert packed(folder)[1].keys() == {"lib", "tiny"}


def test_a_wheel_that_a_requirements_file_names_by_its_place_is_read_anew_when_it_changes(folder: Path):
    (folder / "wheels").mkdir()
    (folder / "wheels/tiny-1-py3-none-any.whl").write_bytes(wheel("tiny"))
    (file := folder / "vendor-1-py3-none-any.whl").write_bytes(wheel("vendor"))
    (folder / "requirements.txt").write_text(f"--no-index\n./{file.name}\n")
    assert packed(folder)[1].keys() == {"vendor"}
    file.write_bytes(wheel("vendor", needs="tiny"))
    assert packed(folder)[1].keys() == {"vendor", "tiny"}


def test_a_project_in_a_folder_of_the_version_can_be_named(folder: Path):
    """The one at the top was taken, under the name of the other."""
    (folder / "wheels").mkdir()
    (folder / "wheels/tiny-1-py3-none-any.whl").write_bytes(wheel("tiny"))
    project(folder, "top")
    project(folder / "back", needs='["tiny"]')
    found, packages = packed(folder, file="back/pyproject.toml")
    assert packages.keys() == {"shop", "tiny"}
    assert packages["tiny"]["wheels"][0]["path"] == "wheels/tiny-1-py3-none-any.whl"
    assert found.notes[0].startswith("dependencies: back/pyproject.toml, 2 packages")


def test_a_project_that_needs_a_later_patch_of_a_python_keeps_that_python(folder: Path):
    """Debian 12 has 3.11.2. The next minor version was taken."""
    project(folder)
    file = folder / "pyproject.toml"
    file.write_text(file.read_text().replace(">=3.11", ">=3.11.2"))
    found, _ = packed(folder)
    assert found.requires_python == ">=3.11.2"


def test_the_file_that_decides_is_the_first_of_a_known_order(folder: Path):
    order = ["pylock.toml", "uv.lock", "poetry.lock", "Pipfile.lock", "requirements.txt", "pyproject.toml"]
    for name in order:
        (folder / name).write_text("[project]\n")
    for name in order:
        assert choose(folder) == folder / name
        (folder / name).unlink()
    assert choose(folder) is None
    (folder / "requirements").mkdir()
    for name in ("dev", "prod"):
        (folder / f"requirements/{name}.txt").write_text("")
    assert choose(folder) == folder / "requirements/prod.txt"
    assert choose(folder, named="requirements/dev.txt") == folder / "requirements/dev.txt"
    with pytest.raises(Usage, match="has no none"):
        choose(folder, named="none")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.txt", "fastapi[standard]>=0.115  # with uvicorn\n"),
        ("requirements.txt", "FastAPI [ all ]\n"),
        ("pyproject.toml", 'dependencies = [\n    "fastapi[email, standard]>=0.141.1,<1.0.0",\n]\n'),
        ("pyproject.toml", '[project]\ndependencies = ["redis", "fastapi[standard]"]\n'),
        ("pyproject.toml", '[tool.poetry.dependencies]\nfastapi = {extras = ["standard"], version = "^0.115"}\n'),
    ],
)
def test_fastapi_as_its_documents_have_it_installed_brings_its_server(
    name: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    assert {"fastapi", "uvicorn"} <= {*named_packages(tmp_path)}
    (tmp_path / name).write_text(text.replace("standard", "email").replace("all", "email"))
    assert "uvicorn" not in named_packages(tmp_path)


@pytest.mark.parametrize(
    ("line", "server"),
    [("litestar[standard]", "uvicorn"), ("quart>=0.20", "hypercorn"), ("python-fasthtml", "uvicorn")],
)
def test_a_framework_that_brings_its_server_needs_no_other(line: str, server: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"{line}\n")
    assert server in named_packages(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[project\n",
        "project = 1\n",
        "[project]\ndependencies = 1\n",
        "[project]\ndependencies = [1]\n",
        f"a = {'9' * 5000}\n",
        "tool = []\n",
    ],
)
def test_a_pyproject_that_is_none_names_no_package(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert not {"fastapi", "uvicorn"} & {*named_packages(tmp_path)}


def test_a_pyproject_that_uv_cannot_use_is_refused_with_what_is_wrong_in_it(tmp_path: Path) -> None:
    """`TOML parse error at line 1, column 1`, where only the version was missing."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "shop"\ndependencies = []\n')
    with pytest.raises(Usage, match=r"the required `project\.version` field is neither set nor present"):
        prepare(tmp_path, wanted=Dependencies())


def test_an_entry_of_the_cache_without_its_file_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As who cleans a cache by the age of its files leaves it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = entry("key", lambda into: write(into / "file", b"1")) / "file"
    file.unlink()
    assert entry("key", lambda into: write(into / "file", b"2")) == file.parent
    assert file.read_bytes() == b"2"
    entry("key", lambda into: write(into / "file", b"3"))
    assert file.read_bytes() == b"2"


def test_two_runs_may_make_an_entry_of_the_cache_anew_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = entry("key", lambda into: write(into / "file", b"1")) / "file"
    rename = Path.rename

    def raced(self: Path, target: Path) -> Path:
        if self == file.parent:
            shutil.rmtree(self)  # the other run puts it aside
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", raced)
    entry("key", lambda into: write(into / "file", b"2"), anew=True)
    assert file.read_bytes() == b"2"


def test_an_entry_of_the_cache_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut, a file of a renamed folder may be empty: so was the lock of the next release."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    synced = []

    def sync(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2]
        synced.append((name, (tmp_path / "pusher/key").exists()))

    monkeypatch.setattr(os, "fsync", sync)
    entry("key", lambda into: write(into / "file", b"1"))
    assert synced == [("file", False), ("new", False)]


def test_a_user_without_a_home_gets_no_folder_with_the_name_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has no entry: a folder called `~` was made in the project, and sent along."""

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert cache_folder() == Path("/nonexistent/.cache/pusher")
    assert state_folder() == Path("/nonexistent/.local/state/pusher")


def test_a_cache_that_cannot_be_written_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file/cache"))
    with pytest.raises(Usage, match=r"file/cache/pusher cannot be written: .*Set XDG_CACHE_HOME to a folder"):
        entry("key", lambda into: None)
