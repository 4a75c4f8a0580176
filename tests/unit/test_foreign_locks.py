"""Locks of Poetry, Pipenv and others become one lock of the standard."""

import json
import tomllib
from pathlib import Path

import pytest

from pusher.dependencies.conditions import allows, decided_extras, either, specifiers
from pusher.dependencies.lock import Lock, note, noted, read_lock, write_lock
from pusher.dependencies.pipenv import read_pipenv
from pusher.dependencies.poetry import poetry_project, read_poetry
from pusher.errors import Usage

HASH = "sha256:" + "a" * 64

PYPROJECT = """
[tool.poetry]
name = "shop"
[tool.poetry.dependencies]
python = "^3.11"
flask = "^3.0"
psycopg = { version = "*", optional = true }
[tool.poetry.extras]
pg = ["psycopg"]
[tool.poetry.group.dev.dependencies]
pytest = "*"
"""


def poetry_package(name: str, version: str, more: str = "") -> str:
    files = f'files = [{{file = "{name}-{version}-py3-none-any.whl", hash = "{HASH}"}}]'
    return f'[[package]]\nname = "{name}"\nversion = "{version}"\n{files}\n{more}\n'


POETRY_2 = (
    poetry_package("flask", "3.1.0", 'groups = ["main"]')
    + poetry_package("colorama", "0.4", 'groups = ["main", "dev"]\nmarkers = "sys_platform == \\"win32\\""')
    + poetry_package("psycopg", "3.2", 'groups = ["main"]\nmarkers = "extra == \\"pg\\""')
    + poetry_package("pytest", "8.0", 'groups = ["dev"]')
    + '[extras]\npg = ["psycopg"]\n[metadata]\nlock-version = "2.1"\npython-versions = "^3.11"\n'
)
POETRY_1 = (
    poetry_package(
        "flask", "3.1.0", '[package.dependencies]\ncolorama = {version = "*", markers = "os_name == \\"nt\\""}'
    )
    + poetry_package("colorama", "0.4")
    + poetry_package("psycopg", "3.2")
    + poetry_package("pytest", "8.0")
    + '[extras]\npg = ["psycopg"]\n[metadata]\nlock-version = "2.0"\npython-versions = "^3.11"\n'
)
PIPFILE_LOCK = {
    "_meta": {"requires": {"python_version": "3.11"}},
    "default": {"flask": {"version": "==3.1.0", "hashes": [HASH], "markers": "python_version >= '3.9'"}},
    "develop": {"pytest": {"version": "==8.0", "hashes": [HASH]}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    return tmp_path


def poetry(
    folder: Path, text: str = POETRY_2, *, extras: tuple[str, ...] = (), groups: tuple[str, ...] = ()
) -> Lock:
    (folder / "poetry.lock").write_text(text)
    return read_poetry(folder / "poetry.lock", extras=extras, groups=groups)


def names(lock: Lock) -> dict[str, str]:
    return {one.name: one.marker for one in lock.packages}


def test_poetrys_main_group_is_taken_with_its_conditions_and_hashes(folder: Path):
    lock = poetry(folder)
    assert names(lock) == {"flask": "", "colorama": 'sys_platform == "win32"'}
    assert lock.requires_python == "<4,>=3.11"
    assert lock.packages[0].files[0].hashes == (HASH,)


def test_poetrys_extras_and_groups_are_taken_if_they_are_wanted(folder: Path):
    assert names(poetry(folder, extras=("pg",), groups=("dev",))).keys() == {
        "flask",
        "colorama",
        "psycopg",
        "pytest",
    }


@pytest.mark.parametrize(("extras", "more"), [((), set()), (("pg",), {"psycopg"})])
def test_an_older_poetry_lock_is_followed_from_what_the_project_wants(folder: Path, extras, more: set[str]):
    found = names(poetry(folder, POETRY_1, extras=extras))
    assert found.keys() == {"flask", "colorama"} | more
    assert found["colorama"] == 'os_name == "nt"'


def test_a_poetry_project_is_installed_only_where_its_package_is(folder: Path):
    assert poetry_project(folder) == []
    (folder / "shop").mkdir()
    assert [one.name for one in poetry_project(folder)] == ["shop"]


@pytest.mark.parametrize(("wanted", "why"), [("^2.0", "has 3.1.0"), ('"*"\nnew = "', "the lock lacks it")])
def test_a_poetry_lock_that_does_not_fit_is_refused_with_the_line_that_mends_it(
    folder: Path, wanted: str, why: str
):
    text = PYPROJECT.replace('flask = "^3.0"', f'flask = "{wanted}"' if "new" not in wanted else 'new = "1"')
    (folder / "pyproject.toml").write_text(text)
    with pytest.raises(Usage, match="does not fit") as refused:
        poetry(folder)
    assert why in refused.value.why
    assert refused.value.hint == "poetry lock"


def test_an_unknown_extra_or_group_is_named(folder: Path):
    with pytest.raises(Usage, match="no extras zz"):
        poetry(folder, extras=("zz",))
    with pytest.raises(Usage, match="no groups prud") as refused:
        poetry(folder, groups=("main", "dev", "prud"))
    assert refused.value.hint == "It has: dev"


@pytest.mark.parametrize(
    "table", ["[dependency-groups]\nops = []\n", "[tool.poetry.group.ops]\n", "[tool.poetry.dev-dependencies]\n"]
)
def test_a_group_may_be_poetrys_own_or_of_the_standard(folder: Path, table: str):
    (folder / "pyproject.toml").write_text(PYPROJECT.partition("[tool.poetry.group")[0] + table)
    assert "flask" in names(poetry(folder, groups=("ops" if "ops" in table else "dev",)))


@pytest.mark.parametrize("lock", [POETRY_2, POETRY_1])
@pytest.mark.parametrize("wanted", ["Test_Tools", "test-tools"])
def test_a_group_is_found_however_its_name_is_spelled(folder: Path, lock: str, wanted: str):
    """Poetry writes `test-tools` into the lock, and the packages of `Test_Tools` were passed over."""
    (folder / "pyproject.toml").write_text(PYPROJECT.replace("group.dev", "group.Test_Tools"))
    found = poetry(folder, lock.replace('groups = ["dev"]', 'groups = ["test-tools"]'), groups=(wanted,))
    assert "pytest" in names(found)


@pytest.mark.parametrize(
    "text", ["[", "package = [1]", '[[package]]\nname = "x"', "package = 1", "metadata = 1", "extras = 1"]
)
def test_what_is_no_poetry_lock_is_refused(folder: Path, text: str):
    (folder / "pyproject.toml").write_text("")
    with pytest.raises(Usage, match=r"poetry\.lock"):
        poetry(folder, text)


@pytest.mark.parametrize(
    "text", ["tool = 1", "[tool]\npoetry = 1", "[tool.poetry]\ndependencies = 1", "project = 1"]
)
def test_a_project_that_poetry_could_not_have_locked_is_refused(folder: Path, text: str):
    (folder / "pyproject.toml").write_text(text)
    with pytest.raises(Usage, match=r"the pyproject\.toml beside it, is not as Poetry has it"):
        poetry(folder)


def test_the_project_of_poetry_itself_is_one(folder: Path):
    (folder / "pyproject.toml").write_text("[tool]\npoetry = 1")
    with pytest.raises(Usage, match="is not as Poetry has it"):
        poetry_project(folder)


def test_where_a_package_of_poetry_comes_from_is_kept(folder: Path):
    (folder / "pyproject.toml").write_text("")
    sources = {
        "a": 'type = "directory"\nurl = "libs/a"',
        "b": 'type = "git"\nurl = "https://x.example/b"\nresolved_reference = "123"',
        "c": 'type = "url"\nurl = "https://x.example/c.whl"',
        "d": 'type = "file"\nurl = "libs/d.whl"',
        "e": 'type = "legacy"\nurl = "https://x.example"',
    }
    text = "".join(
        poetry_package(name, "1", f'groups = ["main"]\n[package.source]\n{source}')
        for name, source in sources.items()
    )
    found = [one.origin and [*one.origin] for one in poetry(folder, text).packages]
    assert found == [["directory"], ["vcs"], ["archive"], ["archive"], None]


def pipenv(folder: Path, lock: object = PIPFILE_LOCK, *, groups: tuple[str, ...] = ()) -> Lock:
    (folder / "Pipfile.lock").write_text(json.dumps(lock))
    return read_pipenv(folder / "Pipfile.lock", groups=groups)


def test_pipenvs_default_packages_are_taken_with_their_hashes(folder: Path):
    lock = pipenv(folder)
    assert [(one.name, one.version, one.marker, one.hashes) for one in lock.packages] == [
        ("flask", "3.1.0", "python_version >= '3.9'", (HASH,))
    ]
    assert lock.requires_python == ">=3.11"
    assert names(pipenv(folder, groups=("develop",))).keys() == {"flask", "pytest"}
    assert tomllib.loads(write_lock(lock))["packages"][0]["tool"]["pusher"]["hashes"] == [HASH]


@pytest.mark.parametrize("wanted", ['flask = "<3"', 'httpx = "*"', 'httpx = {version = "*"}'])
def test_a_pipfile_lock_that_does_not_fit_is_refused_with_the_line_that_mends_it(folder: Path, wanted: str):
    (folder / "Pipfile").write_text(f"[packages]\n{wanted}\n")
    with pytest.raises(Usage, match="does not fit its Pipfile") as refused:
        pipenv(folder)
    assert refused.value.hint == "pipenv lock"


@pytest.mark.parametrize("lock", [[], {"default": {"x": 1}}, {"default": 1}, {"_meta": {"requires": 1}}])
def test_what_is_no_pipfile_lock_is_refused(folder: Path, lock: object):
    with pytest.raises(Usage, match="Pipfile"):
        pipenv(folder, lock)


def test_where_a_package_of_pipenv_comes_from_is_kept(folder: Path):
    packages = {
        "a": {"path": "."},
        "b": {"git": "https://x.example/b", "ref": "1"},
        "c": {"file": "https://x.example/c"},
    }
    found = [one.origin and [*one.origin] for one in pipenv(folder, {"default": packages}).packages]
    assert found == [["directory"], ["vcs"], ["archive"]]


@pytest.mark.parametrize(
    ("marker", "left"),
    [
        ("", ""),
        ("extra == 'pg'", ""),
        ("extra != 'pg'", None),
        ("extra == 'x' and python_version < '3'", None),
        ("(extra == 'x' or extra == 'pg') and os_name == 'nt'", 'os_name == "nt"'),
        ("extra == 'x' or os_name not in 'a b'", 'os_name not in "a b"'),
        (
            "(os_name == 'a' or os_name == 'b') and (python_version < '3' or extra == 'z')",
            '(os_name == "a" or os_name == "b") and python_version < "3"',
        ),
    ],
)
def test_a_condition_is_left_without_what_is_known(marker: str, left: str | None):
    assert decided_extras(marker, extras={"pg"}) == left


def test_one_of_several_conditions_is_enough():
    assert either({"a", ""}) == ""
    assert either({"os_name == 'a'", "os_name == 'b'"}) == "(os_name == 'a') or (os_name == 'b')"


@pytest.mark.parametrize(
    ("constraint", "found"),
    [
        ("^1.2.3", ["<2,>=1.2.3"]),
        ("^0.2", ["<0.3,>=0.2"]),
        ("^0.0.3", ["<0.0.4,>=0.0.3"]),
        ("~1.2", ["<1.3,>=1.2"]),
        ("~1", ["<2,>=1"]),
        ("1.2", ["==1.2"]),
        (">=1 <2", ["<2,>=1"]),
        ("^1 || ^2", ["<2,>=1", "<3,>=2"]),
        ("*", []),
        ("branch", []),
    ],
)
def test_constraints_of_poetry_are_those_of_the_standard(constraint: str, found: list[str]):
    assert [str(one) for one in specifiers(constraint)] == found
    assert allows(constraint, "no version")


FOREIGN = f"""
lock-version = "1.0"
requires-python = ">=3.11"
extras = ["pg"]
dependency-groups = ["dev"]
default-groups = ["web"]
[[packages]]
name = "Flask"
version = "3"
wheels = [
    {{ url = "https://me:my@secret@x.example/flask-3-py3-none-any.whl", hashes = {{ sha256 = "{"a" * 64}" }} }},
    {{ url = "https://x.example/flask-3-cp311-cp311-win_amd64.whl", hashes = {{ sha256 = "{"b" * 64}" }} }},
]
sdist = {{ name = "flask-3.tar.gz", url = "https://x.example/1", hashes = {{ sha256 = "{"c" * 64}" }} }}
[[packages]]
name = "psycopg"
marker = "'pg' in extras"
[[packages]]
name = "pytest"
marker = "'dev' in dependency_groups"
[[packages]]
name = "gunicorn"
marker = "'web' in dependency_groups and 'pg' not in extras"
"""


def test_extras_and_groups_of_a_lock_are_decided_while_packing():
    assert names(read_lock(FOREIGN, name="x")) == {"flask": "", "gunicorn": ""}
    assert names(read_lock(FOREIGN, name="x", extras=["pg"], groups=["dev"])).keys() == {
        "flask",
        "psycopg",
        "pytest",
    }
    with pytest.raises(Usage, match="x has no extras zz"):
        read_lock(FOREIGN, name="x", extras=["zz"])


def test_a_lock_with_the_time_of_an_upload_is_noted():
    archive = 'url = "https://x.example/a.tar.gz", upload-time = 2026-01-01T00:00:00Z, hashes = { sha256 = "a" }'
    lock = read_lock(f'lock-version = "1.0"\n[[packages]]\nname = "a"\narchive = {{ {archive} }}\n', name="x")
    (package,) = noted(note(lock)).packages
    assert (package.origin or {})["archive"]["url"] == "https://x.example/a.tar.gz"


def test_a_written_lock_has_no_login_and_no_wheel_for_windows():
    text = write_lock(read_lock(FOREIGN, name="x"))
    assert "secret" not in text
    assert "win_amd64" not in text
    assert write_lock(read_lock(text, name="y")) == text


@pytest.mark.parametrize(
    "text",
    [
        "[",
        'lock-version = "2.0"',
        'lock-version = "1.0"\npackages = [1]',
        'lock-version = "1.0"\nextras = 1',
        'lock-version = "1.0"\ndefault-groups = [1]',
    ],
)
def test_what_is_no_lock_is_refused_by_name(text: str):
    with pytest.raises(Usage, match="x "):
        read_lock(text, name="x")
