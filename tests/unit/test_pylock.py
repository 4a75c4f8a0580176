"""What the agent reads in a pylock.toml: names, versions and hashes."""

import json

import pytest
from packaging.tags import parse_tag

from agent.core.config.app import Dependencies
from agent.core.requirements.pylock import PACKAGES_MOST, check_python, lacking_wheels, without_wheel
from agent.core.requirements.toml_text import DOTS_MOST
from agent.core.requirements.wanted import Kind, Wanted, read_wanted
from agent.core.venv import install_argv, written_files
from agent.core.work_folder import REQUIREMENTS, Source
from pusher.wire import Failed

HASH = "a" * 64
HEAD = 'lock-version = "1.0"\n'


def package(**members: object) -> str:
    """A package in a lock; JSON's strings and lists are TOML's too."""
    return "[[packages]]\n" + "".join(f"{key} = {inline(value)}\n" for key, value in members.items())


def inline(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)


def file(**members: object) -> dict[str, object]:
    return {"hashes": {"sha256": HASH}, **members}


def read(text: str, *, wheels_only: bool = True, **files: str) -> Wanted:
    every = {"pylock.toml": text, **files}
    found = {name: content.encode() for name, content in every.items()}
    return read_wanted("requirements.txt", read=found.get, wheels_only=wheels_only)


def refused(text: str, *, wheels_only: bool = True) -> str:
    with pytest.raises(Failed) as caught:
        read(text, wheels_only=wheels_only)
    return f"{caught.value.what}: {caught.value.why}"


TINY = package(name="Tiny", version="1.0", wheels=[file(url="https://elsewhere.example/tiny.whl")])


def test_a_lock_becomes_names_versions_and_hashes_and_no_url():
    wanted = read(HEAD + TINY)
    assert wanted.kind is Kind.PYLOCK
    assert written_files(wanted, Dependencies())[REQUIREMENTS] == f"tiny==1.0 --hash=sha256:{HASH}\n"


def test_nothing_else_is_read_where_a_lock_is():
    wanted = read(HEAD + TINY, **{"requirements.txt": "-e ."})
    assert list(wanted.files) == ["pylock.toml"]


def test_what_a_lock_names_is_installed_without_what_that_needs_and_with_its_hashes():
    argv = install_argv(
        "uv",
        read(HEAD + TINY),
        config=Dependencies(),
        source=Source.INDEX,
        wheels=False,  # type: ignore[arg-type]
    )
    assert {"--no-deps", "--require-hashes"} <= {*argv}


def test_a_lock_without_packages_asks_for_nothing():
    wanted = read(HEAD + "packages = []\n")
    assert (wanted.requirements, wanted.hashed) == ((), False)


def test_a_condition_is_kept():
    marked = package(name="tiny", version="1", marker="python_version<'3.12'", wheels=[file()])
    assert read(HEAD + marked).requirements[0].marker == 'python_version < "3.12"'


def test_a_wheel_of_the_release_is_named_by_its_path():
    own = package(name="shop", wheels=[file(path="wheels/shop-1-py3-none-any.whl")])
    assert str(read(HEAD + own).requirements[0]) == (
        f"shop @ ./wheels/shop-1-py3-none-any.whl --hash=sha256:{HASH}"
    )


def test_the_hashes_of_every_file_count_and_those_that_the_sender_noted():
    several = package(
        name="tiny",
        version="1",
        sdist=file(),
        wheels=[{"hashes": {"sha256": "b" * 64, "md5": "0"}}],
        tool={"pusher": {"hashes": ["sha256:" + "c" * 64]}},
    )
    found = read(HEAD + several).requirements[0].hashes
    assert {one[7] for one in found} == {"a", "b", "c"}


def test_a_source_archive_alone_is_for_hosts_that_build():
    source = HEAD + package(name="tiny", version="1", sdist=file())
    assert read(source, wheels_only=False).requirements[0].name == "tiny"
    assert "tiny has no wheel for this host: it would run build code" in refused(source)


def test_all_packages_without_a_wheel_are_named_at_once():
    source = HEAD + "".join(package(name=name, version="1", sdist=file()) for name in ("one", "two", "three"))
    assert refused(source).startswith("one, two and three have no wheel for this host")
    with pytest.raises(Failed) as caught:
        read(source)
    assert "`only_binary = false` in [dependencies] of the app's file" in caught.value.hint
    assert "`wheels = true` in [dependencies] of pusher.toml" in caught.value.hint


def test_many_packages_without_a_wheel_are_not_all_shown():
    assert str(without_wheel([f"p{number}" for number in range(23)])).startswith("p0, p1, ")
    assert "p19 and 3 more have no wheel" in str(without_wheel([f"p{number}" for number in range(23)]))


def test_a_wheel_counts_only_where_it_fits_and_its_package_is_needed():
    fitting, other = "one-1-cp311-cp311-linux_x86_64.whl", "one-1-cp313-cp313-linux_x86_64.whl"
    tags = parse_tag("cp311-cp311-linux_x86_64")

    def lacking(marker: str = "", **wheel: object) -> list[str]:
        marked = {"marker": marker} if marker else {}
        wanted = read(HEAD + package(name="one", version="1", wheels=[file(**wheel)], **marked))
        return lacking_wheels(
            wanted.wheels, wanted.requirements, tags=tags, environment={"python_version": "3.11"}
        )

    assert lacking(name=fitting) == lacking(url=f"https://x.example/{fitting}?query") == []
    assert lacking(name=other) == ["one"]
    assert lacking("python_version < '3.11'", name=other) == []
    assert lacking(name="unusual") == [], "what it is for is not known"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "its lock-version is None"),
        ('lock-version = "2.0"', "its lock-version is '2.0'"),
        (HEAD, "its packages are not a list"),
        (HEAD + "packages = 1", "its packages are not a list"),
        (HEAD + "packages = [" + "{}," * (PACKAGES_MOST + 1) + "]", "its packages are not a list"),
        (HEAD + "packages = [1]", "a package is not a table"),
        (HEAD + "packages = [{}]", "None is not a text"),
        (HEAD + package(name="-e ."), "'-e .' is not the name of a package"),
        (HEAD + package(name="a" * 3_000), "is not a text of at most"),
        (HEAD + package(name="tiny", wheels=[file()]), "None is not a text"),
        (HEAD + package(name="tiny", version="1 --pre", wheels=[file()]), "'1 --pre' is not a version"),
        (HEAD + package(name="tiny", version="1", marker="x", wheels=[file()]), "'x' is no condition"),
        (HEAD + package(name="tiny", version="1", marker="'x' in extras", wheels=[file()]), "asks for extras"),
        (HEAD + package(name="tiny", version="1", marker=1, wheels=[file()]), "1 is not a text"),
        (HEAD + package(name="tiny", version="1"), "it has no hashes"),
        (HEAD + package(name="tiny", version="1", wheels=1), "its wheels are not tables"),
        (HEAD + package(name="tiny", version="1", wheels=[1]), "its wheels are not tables"),
        (HEAD + package(name="tiny", version="1", wheels=[{}]), "no SHA-2 hash"),
        (HEAD + package(name="tiny", version="1", wheels=[{"hashes": {"md5": "0"}}]), "no SHA-2 hash"),
        (HEAD + package(name="tiny", version="1", wheels=[{"hashes": {"sha256": "x --pre"}}]), "is none of use"),
        (HEAD + package(name="tiny", version="1", wheels=[{"hashes": {"sha256": 1}}]), "1 is not a text"),
        (HEAD + package(name="tiny", vcs={"type": "git"}), "comes from elsewhere than an index (vcs)"),
        (HEAD + package(name="tiny", directory={"path": "."}), "comes from elsewhere than an index (directory)"),
        (HEAD + package(name="tiny", wheels=[file(path="../x.whl")]), "names a file or folder of the release"),
        (HEAD + package(name="tiny", wheels=[file(path="/x.whl")]), "names a file or folder of the release"),
        (HEAD + package(name="tiny", wheels=[file(path="wheels/${X}.whl")]), "$ cannot be used"),
        (HEAD + package(name="tiny", wheels=[file(path="wheels/a.whl")] * 2), "several files"),
        (HEAD + package(name="tiny", tool={"pusher": {"hashes": 1}}), "hashes are not a list"),
        (HEAD + package(name="tiny", tool={"pusher": 1}), "hashes are not a list"),
        (HEAD + package(name="tiny", tool=1), "it has no hashes"),
        (HEAD + "requires-python = 'new'\npackages = []", "its requires-python is 'new'"),
        (HEAD + "requires-python = 3\npackages = []", "3 is not a text"),
        ("a = " + "[" * 100_000, "recursion"),
        ("a." * 100_000 + "a = 1", f"more than {DOTS_MOST} dots"),
        ("lock-version = " + "9" * 5_000, "4300 digits"),
        ("lock-version = 0x" + "f" * 9_000, "more than 1,000 digits"),
        ("packages = nothing", "Invalid value"),
    ],
)  # fmt: skip
def test_what_is_no_lock_of_an_index_is_refused_by_name(text, why):
    assert why in refused(text)


def test_the_python_of_the_host_must_be_one_that_the_lock_is_for():
    check_python(">=3.11", python="3.11.2+ (main) [GCC]")
    check_python("", python="3.11.2")
    with pytest.raises(Failed, match=r"needs Python >=3\.12, and this host has 3\.11\.2"):
        check_python(">=3.12", python="3.11.2 (main) [GCC]")
