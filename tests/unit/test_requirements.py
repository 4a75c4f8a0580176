"""Which files decide about a venv, and what may stand in them."""

import hashlib
from collections.abc import Mapping

import pytest

from agent.core.requirements import Kind, Wanted, read_wanted
from pusher.wire import Failed

HASH = "--hash=sha256:" + "ab" * 32


def read(files: Mapping[str, str | bytes], name: str = "requirements.txt", *, wheels_only: bool = True) -> Wanted:
    contents = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
    return read_wanted(name, read=contents.get, wheels_only=wheels_only)


def refusal(files: Mapping[str, str | bytes], name: str = "requirements.txt", *, wheels_only: bool = True) -> str:
    with pytest.raises(Failed) as caught:
        read(files, name, wheels_only=wheels_only)
    return str(caught.value)


def test_every_included_file_counts_once_wherever_it_lies() -> None:
    files = {
        "requirements.txt": "-r reqs/base.txt  # the base\n--constraint=reqs/pins.txt\nflask\n",
        "reqs/base.txt": "--requirement extra.txt\n-r ../requirements.txt\n",
        "reqs/extra.txt": "gunicorn==22.0.0\n",
        "reqs/pins.txt": "click<9\n",
        "other.txt": "",
    }
    wanted = read(files)
    assert wanted.kind is Kind.REQUIREMENTS
    assert wanted.files == {
        name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items() if name != "other.txt"
    }
    assert not wanted.hashed


def test_two_requirements_in_a_line_are_not_taken_for_a_file() -> None:
    said = refusal({"requirements.txt": "flask gunicorn==22.0.0\n"})
    assert said.startswith(
        "requirements.txt, line 1 cannot be used: 'flask gunicorn==22.0.0' is not one requirement"
    )


@pytest.mark.parametrize(
    "line",
    [
        "flask",
        "Flask == 3.0.3 ; python_version > '3.8'",
        "flask[async,dotenv]>=3  # why",
        "flask @ https://example.org/flask-3.0.3-py3-none-any.whl",
        "https://example.org/flask-3.0.3-py3-none-any.whl",
        "./wheels/flask-3.0.3-py3-none-any.whl",
        "wheels/flask-3.0.3-py3-none-any.whl",
        "/srv/wheels/flask-3.0.3-py3-none-any.whl",
        "flask >= 3, \\\n    < 4",
        "--index-url https://example.org/simple",
        "-i=https://example.org/simple",
        "--find-links wheels",
        "-f https://example.org/wheels.html",
        "--only-binary :all:",
        "--pre",
        "--no-index # by hand",
        "# --no-binary flask",
        "flask # \\\nclick",
    ],
)
def test_what_a_requirements_file_may_say(line: str) -> None:
    assert not read({"requirements.txt": f"{line}\n"}).hashed


def test_a_backslash_at_the_very_end_joins_nothing() -> None:
    assert "the release has no base.txt" in refusal({"requirements.txt": "-r base.txt \\"})
    read({"requirements.txt": "flask\n\\"})


@pytest.mark.parametrize(
    "text", [f"flask==3 {HASH} {HASH}\n", f"flask==3 \\\n    {HASH} \\\n    {HASH}", "--require-hashes\nflask\n"]
)
def test_hashes_once_carried_are_demanded_of_all(text: str) -> None:
    assert read({"requirements.txt": text}).hashed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n-r base.txt", "requirements.txt, line 2 cannot be used: the release has no base.txt"),
        ("-r ../base.txt", "leaves the release"),
        ("-c /etc/base.txt", "leaves the release"),
        ("-r https://example.org/r.txt", "may be another one tomorrow"),
        ("-r file:///r.txt", "may be another one tomorrow"),
        ("-r", "'-r' is not an option that can be used here"),
        ("-r a.txt b.txt", "with one value"),
        ("--no-index -r base.txt", "something follows --no-index"),
        ("--config-settings x=y", "is not an option that can be used here"),
        ("-rbase.txt", "is not an option that can be used here"),
        ("-", "'-' is not an option"),
        ("-e .", "a venv is shared by releases"),
        (".", "a venv is shared by releases"),
        ("./vendor/thing.whl", "a venv is shared by releases"),
        ("vendor/thing", "a venv is shared by releases"),
        ("./wheels/../thing", "a venv is shared by releases"),
        ("thing @ file:thing", "a venv is shared by releases"),
        ("wheels/${NAME}.whl", "a venv is shared by releases"),
        ("-f vendor", "a venv is shared by releases"),
        ("flask --no-binary flask", "only --hash may follow"),
        (f"flask {HASH} -r base.txt", "only --hash may follow"),
        (f"flask {HASH} ./evil", "only --hash may follow"),
        ("flask\x0b--no-binary flask", "control character"),
        ("a\nb\u2028c", "requirements.txt, line 2 cannot be used: it has a control character"),
        (b"\xff\xfef\0", "it is not UTF-8"),
    ],
)
def test_what_a_requirements_file_may_not_say(text: str | bytes, said: str) -> None:
    assert said in refusal({"requirements.txt": text})


@pytest.mark.parametrize(
    "line",
    ["--no-binary flask", "--no-binary=:all:", "git+https://example.org/x.git", "x @ git+ssh://example.org/x"],
)
def test_builds_are_refused_unless_the_host_allows_them(line: str) -> None:
    assert "only_binary forbids" in refusal({"requirements.txt": line})
    read({"requirements.txt": line}, wheels_only=False)


def test_a_release_without_the_file_is_told_what_to_do() -> None:
    assert refusal({}) == (
        "The release has no requirements.txt: a release's venv is made from it. "
        "Add it, or set `requirements` in [dependencies] to the file that you have"
    )


def test_a_project_is_read_for_its_dependencies() -> None:
    text = '[project]\nname = "x"\ndependencies = ["flask"]\n[tool.uv.sources]\nflask = { index = "own" }\n'
    wanted = read({"pyproject.toml": text}, "pyproject.toml")
    assert (wanted.kind, list(wanted.files), wanted.hashed) == (Kind.PROJECT, ["pyproject.toml"], False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.x]", "no [project] table"),
        ("[project", "pyproject.toml cannot be used"),
        ('[project]\ndynamic = ["dependencies"]', "its dependencies are dynamic"),
        ('[project]\ndependencies = ["x @ file:x"]', "a venv is shared"),
        ("[project]\n[tool.uv.sources]\nx = { workspace = true }", "pyproject.toml, x cannot be used"),
        ('[project]\n[tool.uv.sources]\nx = [{ path = "vendor/x" }]', "a venv is shared"),
        ("[project]\ndependencies = 1", "its dependencies is not a list"),
        ("[project]\ndynamic = 1", "its dynamic is not a list"),
        ("tool = 1\n[project]", "its tool is not a table"),
        ("[project]\n[tool]\nuv = 1", "its uv is not a table"),
        ("[project]\n[tool.uv.sources]\nx = 1", "its source is not a table"),
        (f"x = {'[' * 20_000}", "pyproject.toml cannot be used"),
        ('[project]\n[tool.uv.sources]\nx = { git = "https://example.org/x" }', "only_binary forbids"),
    ],
)
def test_what_a_project_may_not_say(text: str, said: str) -> None:
    assert said in refusal({"pyproject.toml": text}, "pyproject.toml")


LOCKED = '[[package]]\nname = "x"\nsource = {source}\n'


@pytest.mark.parametrize("own", ["virtual", "editable"])
def test_a_lock_counts_with_its_project_and_always_carries_hashes(own: str) -> None:
    lock = LOCKED.format(source=f'{{ {own} = "." }}') + LOCKED.format(source='{ registry = "https://r" }')
    wanted = read({"sub/uv.lock": lock, "sub/pyproject.toml": ""}, "sub/uv.lock")
    assert (wanted.kind, sorted(wanted.files), wanted.hashed) == (
        Kind.LOCK,
        ["sub/pyproject.toml", "sub/uv.lock"],
        True,
    )


def test_a_lock_may_name_a_wheel_that_travels_along() -> None:
    lock = LOCKED.format(source='{ path = "wheels/x-1-py3-none-any.whl" }')
    assert read({"uv.lock": lock, "pyproject.toml": ""}, "uv.lock").hashed


@pytest.mark.parametrize("source", ['{ directory = "lib" }', '{ path = "x.whl" }', '{ editable = "lib" }'])
def test_a_lock_may_not_name_other_folders_and_files_of_the_release(source: str) -> None:
    lock = {"uv.lock": LOCKED.format(source=source), "pyproject.toml": ""}
    assert "uv.lock, x cannot be used" in refusal(lock, "uv.lock")


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        ("package = 1", "its package is not a list"),
        ('package = ["x"]', "its source is not a table, or does not stand in one"),
        ("[[package]]\nsource = 1", "its source is not a table"),
    ],
)
def test_a_lock_of_another_form_is_refused_as_one(lock: str, said: str) -> None:
    assert said in refusal({"uv.lock": lock, "pyproject.toml": ""}, "uv.lock")


def test_a_locked_git_repository_is_a_build_and_has_no_hash() -> None:
    lock = {"uv.lock": LOCKED.format(source='{ git = "https://example.org/x" }'), "pyproject.toml": ""}
    assert "only_binary forbids" in refusal(lock, "uv.lock")
    assert not read(lock, "uv.lock", wheels_only=False).hashed


def test_a_lock_of_wheels_that_travel_along_has_no_hashes_and_needs_none() -> None:
    lock = LOCKED.format(source='{ registry = "wheels" }') + 'wheels = [{ path = "x-1-py3-none-any.whl" }]\n'
    assert not read({"uv.lock": lock, "pyproject.toml": ""}, "uv.lock").hashed


def test_a_lock_without_its_project_is_refused() -> None:
    assert "The release has no pyproject.toml" in refusal({"uv.lock": ""}, "uv.lock")
