"""Which files decide about a venv, what may stand in them, and what uv gets of it."""

import hashlib
from collections.abc import Mapping

import pytest

from agent.core.requirements.files import FILE_MOST
from agent.core.requirements.requirement import HASHES_MOST, LINE_MOST
from agent.core.requirements.requirements_file import FILES_MOST
from agent.core.requirements.wanted import Kind, Wanted, read_exported, read_wanted
from pusher.wire import Failed

HASH = "--hash=sha256:" + "ab" * 32


def read(
    files: Mapping[str, str | bytes],
    name: str = "requirements.txt",
    *,
    wheels_only: bool = True,
    indexes: tuple[str, ...] = (),
) -> Wanted:
    contents = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
    return read_wanted(name, read=contents.get, wheels_only=wheels_only, indexes={*indexes})


def lines(wanted: Wanted) -> list[str]:
    return [str(one) for one in wanted.requirements]


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


WHEEL = "flask-3.0.3-py3-none-any.whl"


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("flask", ["flask"]),
        ("Flask == 3.0.3 ; python_version > '3.8'", ['Flask==3.0.3 ; python_version > "3.8"']),
        ("flask[dotenv,async]>=3  # why", ["flask[async,dotenv]>=3"]),
        (f"flask @ https://example.org/{WHEEL}#egg=flask", [f"flask @ https://example.org/{WHEEL}#egg=flask"]),
        (f"flask[async] @ file:wheels/{WHEEL}", [f"flask[async] @ ./wheels/{WHEEL}"]),
        (f"https://example.org/{WHEEL}", [f"flask @ https://example.org/{WHEEL}"]),
        (f"./wheels/{WHEEL} ; sys_platform == 'linux'", [f'flask @ ./wheels/{WHEEL} ; sys_platform == "linux"']),
        (f"wheels/more/../{WHEEL}", [f"flask @ ./wheels/{WHEEL}"]),
        ("flask >= 3, \\\n    < 4", ["flask<4,>=3"]),
        ("--find-links ./wheels/", []),
        ("--no-index # by hand", []),
        ("--prefer-binary", []),
        ("# --no-binary flask", []),
        ("flask # \\\nclick", ["flask", "click"]),
        ("flask\t#why", ["flask"]),
    ],
)
def test_what_a_requirements_file_may_say_and_what_uv_gets_of_it(line: str, written: list[str]) -> None:
    wanted = read({"requirements.txt": f"{line}\n"})
    assert lines(wanted) == written
    assert not wanted.hashed


def test_options_that_do_no_harm_are_understood() -> None:
    wanted = read({"requirements.txt": "--pre\n--no-index\n--only-binary Flask,x\n--only-binary=:all:\n"})
    assert (wanted.prereleases, wanted.no_index, wanted.only_binary) == (True, True, ("flask", "x", ":all:"))


def test_what_limits_versions_is_kept_apart_from_what_is_installed() -> None:
    wanted = read(
        {"requirements.txt": "flask\n-c pins.txt", "pins.txt": "-r more.txt\nclick<9", "more.txt": "x<1"}
    )
    assert lines(wanted) == ["flask"]
    assert [str(one) for one in wanted.constraints] == ["x<1", "click<9"]


def test_a_file_may_name_what_is_installed_and_what_limits_it() -> None:
    wanted = read({"requirements.txt": "-r a.txt\n-c a.txt\n-r a.txt", "a.txt": "flask<4"})
    assert lines(wanted) == [str(one) for one in wanted.constraints] == ["flask<4"]


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
        ("-r ${NAME}.txt", "the $ cannot be used in '${NAME}.txt'"),
        ("-i=https://example.org/simple", "a release does not say where packages come from"),
        ("--extra-index-url https://example.org/simple", "Root names them in the app's file"),
        ("--trusted-host example.org", "a release does not say where packages come from"),
        ("-f https://example.org/wheels.html", "a release has packages of its own in wheels/"),
        ("-f ../wheels", "a release has packages of its own in wheels/"),
        ("--only-binary a/b", "'a/b' is not the name of a package"),
        ("/srv/wheels/flask-3.0.3-py3-none-any.whl", "a venv is shared by releases"),
        ("x @ file:///srv/wheels/x-1-py3-none-any.whl", "a venv is shared by releases"),
        ("x @ http://example.org/x-1-py3-none-any.whl", "does not prove where it comes from"),
        ("x @ git+http://example.org/x", "does not prove where it comes from"),
        ("x @ https://[/x.whl", "is no URL"),
        ("https://example.org/x.whl", "does not say which package it is"),
        ("./wheels/x-1-py3-none-any.whl ; x", "is no condition of a requirement"),
        ("./wheels/x-1-py3-none-any.whl[extra]", "characters that a file in wheels/ cannot have"),
        ("./wheels/a b.whl", "is not one requirement"),
        ("x ; python_version > '3 -r y'", "is not one requirement"),
        ("x ; python_version > '3\\'", "is not one requirement"),
        ("caf\xe9", "characters other than printable ASCII"),
        ("x ; " + "(" * 51, "at most 50 brackets"),
        ("x --hash", "only --hash may follow a requirement"),
        ("x --hash=md5:" + "a" * 32, "only --hash may follow a requirement"),
        ("x --hash=sha512:" + "a" * 64, "only --hash may follow a requirement"),
        ("-e .", "a venv is shared by releases"),
        (".", "a venv is shared by releases"),
        ("./vendor/thing.whl", "a venv is shared by releases"),
        ("vendor/thing", "a venv is shared by releases"),
        ("./wheels/../thing", "a venv is shared by releases"),
        ("thing @ file:thing", "a venv is shared by releases"),
        ("wheels/${NAME}.whl", "the $ cannot be used"),
        ("-f vendor", "a release has packages of its own in wheels/"),
        ("flask --no-binary flask", "only --hash may follow"),
        (f"flask {HASH} -r base.txt", "only --hash may follow"),
        (f"flask {HASH} ./evil", "only --hash may follow"),
        ("flask\x0b--no-binary flask", "control character"),
        ("a\nb\u2028c", "requirements.txt, line 2 cannot be used: it has a control character"),
        (b"\xff\xfef\0", "it is UTF-16"),
        (b"\xfff\0", "it is not UTF-8"),
    ],
)
def test_what_a_requirements_file_may_not_say(text: str | bytes, said: str) -> None:
    assert said in refusal({"requirements.txt": text})


@pytest.mark.parametrize(
    "line",
    [
        "--no-binary flask",
        "--no-binary=:all:",
        "x @ git+https://example.org/x.git",
        "x @ git+ssh://example.org/x",
        "x @ https://example.org/x-1.tar.gz",
        "https://example.org/x-1.tar.gz",
        "./wheels/x-1.tar.gz",
        "x @ ./wheels/x-1.zip",
    ],
)
def test_builds_are_refused_unless_the_host_allows_them(line: str) -> None:
    assert "only_binary forbids" in refusal({"requirements.txt": line})
    read({"requirements.txt": line}, wheels_only=False)


def test_a_folder_in_wheels_is_not_built() -> None:
    said = refusal({"requirements.txt": "x @ ./wheels/x"}, wheels_only=False)
    assert "neither a wheel nor a source archive" in said


def test_lines_have_limits() -> None:
    assert f"at most {LINE_MOST} characters" in refusal({"requirements.txt": "x" * (LINE_MOST + 1)})
    assert "only --hash may follow" in refusal({"requirements.txt": "x" + f" {HASH}" * (HASHES_MOST + 1)})
    assert "has more than" in refusal({"requirements.txt": "x\\\n" * 300_000})


def test_files_have_limits() -> None:
    assert "is larger than" in refusal({"requirements.txt": b"#" * (FILE_MOST + 1)})
    chain = {f"{number}.txt": f"-r {number + 1}.txt" for number in range(FILES_MOST + 1)}
    assert f"more than {FILES_MOST} files are included" in refusal({"requirements.txt": "-r 0.txt", **chain})


def test_a_release_without_the_file_is_told_what_to_do() -> None:
    assert refusal({}) == (
        "The release has no requirements.txt: a release's venv is made from it. "
        "Add it, or set `requirements` in [dependencies] to the file that you have"
    )


def test_a_project_is_read_for_its_dependencies() -> None:
    text = '[project]\nname = "x"\ndependencies = ["flask"]\n[tool.uv.sources]\nflask = { index = "own" }\n'
    wanted = read({"pyproject.toml": text}, "pyproject.toml", indexes=("own",))
    assert (wanted.kind, list(wanted.files), wanted.hashed) == (Kind.PROJECT, ["pyproject.toml"], False)
    assert lines(wanted) == ["flask"]


SOURCES = "[project]\ndependencies = [\"Own[more]; python_version > '3'\"]\n[tool.uv.sources]\nown = {source}\n"


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ('{{ path = "wheels/own-1-py3-none-any.whl" }}', "./wheels/own-1-py3-none-any.whl"),
        ('[{{ url = "https://example.org/own.whl" }}]', "https://example.org/own.whl"),
        (
            '{{ git = "https://example.org/own", tag = "v1", subdirectory = "x" }}',
            "git+https://example.org/own@v1#subdirectory=x",
        ),
    ],
)
def test_where_a_project_takes_a_package_from_is_written_down(source: str, written: str) -> None:
    text = SOURCES.format(source=source.format())
    wanted = read({"pyproject.toml": text}, "pyproject.toml", wheels_only=False)
    assert lines(wanted) == [f'Own[more] @ {written} ; python_version > "3"']


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.x]", "no [project] table"),
        ("[project", "pyproject.toml cannot be used"),
        ('[project]\ndynamic = ["dependencies"]', "its dependencies are dynamic"),
        ('[project]\ndependencies = ["x @ file:x"]', "a venv is shared"),
        ("[project]\n[tool.uv.sources]\nx = { workspace = true }", "pyproject.toml, x cannot be used"),
        ('[project]\ndependencies = ["x"]\n[tool.uv.sources]\nx = [{ path = "vendor/x" }]', "a venv is shared"),
        ('[project]\ndependencies = ["x"]\n[tool.uv.sources]\nx = { path = "$x" }', "the $ cannot be used"),
        ('[project]\n[tool.uv.sources]\nx = { index = "own" }', "the host has no index called 'own'"),
        ('[project]\n[tool.uv.sources]\nx = { index = ["own"] }', "the host has no index called"),
        ('[project]\n[tool.uv.sources]\nx = [{ path = "a" }, { path = "b" }]', "it has several sources"),
        ("[project]\n[tool.uv.sources]\nx = { other = 1 }", "of a kind that is not known"),
        ("[project]\n[tool.uv.sources]\nx = { workspace = true }", "a venv is shared"),
        ('[project]\ndependencies = ["x/y"]', "a venv is shared"),
        (
            '[project]\ndependencies = ["./wheels/x-1-py3-none-any.whl"]\n[tool.uv.sources]\nx = { path = "y" }',
            "is not one requirement",
        ),
        ('[project]\ndependencies = ["x y"]\n[tool.uv.sources]\nx = { path = "wheels/x" }', "not one requirement"),
        ("[project]\ndependencies = [\"x ; python_version > '3 -r y'\"]", "could be read in two ways"),
        ("[project]\ndependencies = [\"x ; python_version > '3 #'\"]", "could be read in two ways"),
        ("[project]\ndependencies = [\"x ; python_version > '3\\\\n'\"]", "could be read in two ways"),
        ("[project]\ndependencies = 1", "its dependencies is not a list"),
        ("[project]\ndynamic = 1", "its dynamic is not a list"),
        ("tool = 1\n[project]", "its tool is not a table"),
        ("[project]\n[tool]\nuv = 1", "its uv is not a table"),
        ("[project]\n[tool.uv.sources]\nx = 1", "its source is not a table"),
        (f"x = {'[' * 20_000}", "pyproject.toml cannot be used"),
        (
            '[project]\ndependencies = ["x"]\n[tool.uv.sources]\nx = { git = "https://example.org/x" }',
            "only_binary forbids",
        ),
    ],
)
def test_what_a_project_may_not_say(text: str, said: str) -> None:
    assert said in refusal({"pyproject.toml": text}, "pyproject.toml")


LOCKED = '[[package]]\nname = "x"\nsource = {source}\n'


@pytest.mark.parametrize("own", ["virtual", "editable"])
def test_a_lock_counts_with_its_project(own: str) -> None:
    lock = LOCKED.format(source=f'{{ {own} = "." }}') + LOCKED.format(source='{ registry = "https://r" }')
    wanted = read({"sub/uv.lock": lock, "sub/pyproject.toml": ""}, "sub/uv.lock")
    assert (wanted.kind, sorted(wanted.files)) == (Kind.LOCK, ["sub/pyproject.toml", "sub/uv.lock"])


def exported(text: str, name: str = "uv.lock", *, wheels_only: bool = True) -> Wanted:
    return read_exported(Wanted(Kind.LOCK, name, {}), text, wheels_only=wheels_only)


def test_what_a_lock_comes_to_is_checked_as_if_the_release_had_said_it() -> None:
    wanted = exported(f"flask==3 \\\n    {HASH}\n./wheels/x-1-py3-none-any.whl \\\n    {HASH}\n")
    assert lines(wanted) == [f"flask==3 {HASH}", f"x @ ./wheels/x-1-py3-none-any.whl {HASH}"]
    assert wanted.hashed
    assert not exported(f"flask==3 {HASH}\nx==1\n").hashed, "of wheels/, uv writes down no hashes"
    assert not exported("").hashed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("--no-binary x", "uv.lock, exported line 1 cannot be used: '--no-binary x' is an option"),
        ("x==1 ; sys_platform != 'a\n--no-binary x\n'", "is not one requirement"),
        ("x @ ./wheels/x-1.tar.gz", "only_binary forbids"),
        ("x @ ${X}", "the $ cannot be used"),
        ("x\x0c", "has a control character"),
        ("#" * (FILE_MOST + 1), "is larger than"),
    ],
)
def test_what_a_lock_may_not_come_to(text: str, said: str) -> None:
    with pytest.raises(Failed) as caught:
        exported(text)
    assert said in str(caught.value)


def test_paths_of_a_lock_in_a_folder_start_there() -> None:
    assert lines(exported("../wheels/x-1-py3-none-any.whl", "sub/uv.lock")) == [
        "x @ ./wheels/x-1-py3-none-any.whl"
    ]
    with pytest.raises(Failed):
        exported("./wheels/x-1-py3-none-any.whl", "sub/uv.lock")


@pytest.mark.parametrize("source", ['{ directory = "lib" }', "{ workspace = true }", '{ editable = "lib" }'])
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


def test_a_locked_git_repository_is_a_build() -> None:
    lock = {"uv.lock": LOCKED.format(source='{ git = "https://example.org/x" }'), "pyproject.toml": ""}
    assert "only_binary forbids" in refusal(lock, "uv.lock")
    read(lock, "uv.lock", wheels_only=False)


def test_a_lock_without_its_project_is_refused() -> None:
    assert "The release has no pyproject.toml" in refusal({"uv.lock": ""}, "uv.lock")


def test_the_url_of_a_repository_that_is_no_url_is_refused() -> None:
    assert "is no URL" in refusal({"requirements.txt": "git+https://["}, wheels_only=False)
