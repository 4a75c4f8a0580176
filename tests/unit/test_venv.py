"""How a venv is named, the files that uv reads, and the commands that make it."""

import tomllib
from pathlib import Path

import pytest

from agent.core.config.app import Dependencies
from agent.core.environment import CLEAN_PATH
from agent.core.requirements.wanted import Kind, Wanted, read_wanted
from agent.core.venv import (
    astray,
    compile_argv,
    export_argv,
    facts_argv,
    index_credentials,
    install_argv,
    make_argv,
    needs_export,
    sources,
    uv_environment,
    venv_key,
    written_files,
)
from agent.core.work_folder import Source
from pusher.wire import Refused

UV = Path("/uv")
WANTED = Wanted(Kind.REQUIREMENTS, "requirements.txt", {"requirements.txt": "aa"}, hashed=False)
ALWAYS = ("--no-config", "--no-python-downloads", "--color", "never", "--no-progress")
INSTALL = (
    *("/uv", "pip", "install", *ALWAYS, "--system-certs", "--link-mode", "copy"),
    *("--keyring-provider", "disabled", "--python", "venv/bin/python"),
)
CORP = {"name": "corp", "url": "https://corp/simple", "packages": ["Corp.Lib", "corp-auth"]}


def wanted(text: str, **files: str) -> Wanted:
    every = {"requirements.txt": text, **{f"{name}.txt": content for name, content in files.items()}}
    contents = {name: content.encode() for name, content in every.items()}
    return read_wanted("requirements.txt", read=contents.get, wheels_only=True)


def config(**options: object) -> Dependencies:
    return Dependencies.model_validate(options)


def key(
    wanted: Wanted = WANTED,
    *,
    python: str = "3.11",
    wheels: dict[str, str] | None = None,
    places: dict[str, str] | None = None,
    **options: object,
) -> str:
    return venv_key(wanted, python=python, config=config(**options), wheels=wheels or {}, places=places)


def test_equal_inputs_give_the_same_short_key() -> None:
    assert key() == key(deadline_s=5, credentials_file="/x")
    assert len(key()) == 16


def test_every_input_that_matters_changes_the_key() -> None:
    others = [
        key(Wanted(Kind.REQUIREMENTS, "requirements.txt", {"requirements.txt": "bb"}, hashed=False)),
        key(python="3.12"),
        key(wheels={"x.whl": "cc"}),
        key(wheels={"deep/x.whl": "cc"}),
        key(places={"/srv/wheels/x.whl": "cc"}),
        key(only_binary=False),
        key(index_url="https://example.org/simple"),
        key(indexes=[CORP]),
        key(indexes=[{**CORP, "packages": []}]),
        key(no_index=True),
        key(find_links=["/srv/wheels"]),
    ]
    assert len({key(), *others}) == len(others) + 1


@pytest.mark.parametrize(
    ("no_index", "wheels", "expected"),
    [
        (False, False, (Source.INDEX, Source.CACHE)),
        (False, True, (Source.LOCAL, Source.INDEX, Source.CACHE)),
        (True, False, (Source.LOCAL,)),
        (True, True, (Source.LOCAL,)),
    ],
)
def test_wheels_of_the_release_are_tried_before_the_network(
    no_index: bool, wheels: bool, expected: tuple[Source, ...]
) -> None:
    assert sources(config(no_index=no_index), WANTED, wheels=wheels) == expected
    asked = wanted("--no-index" if no_index else "")
    assert sources(config(), asked, wheels=wheels) == expected


def test_a_venv_is_made_relocatable_and_without_a_look_at_projects() -> None:
    assert make_argv(UV, python="/usr/bin/python3") == (
        *("/uv", "venv", *ALWAYS, "--quiet", "--no-project", "--relocatable"),
        *("--python", "/usr/bin/python3", "venv"),
    )


def test_only_wheels_are_installed_as_copies_and_from_the_default_index() -> None:
    argv = install_argv(UV, WANTED, config=config(), source=Source.INDEX, wheels=False)
    assert argv == (*INSTALL, "--no-build", "--requirements", "requirements.txt")


def test_indexes_and_places_of_root_are_passed_on() -> None:
    given = config(
        index_url="https://i/simple",
        indexes=[{"name": "more", "url": "https://m/simple"}, CORP],
        find_links=["/srv/w"],
        only_binary=False,
    )
    asked = wanted("--pre\nflask\n--only-binary x\n--require-hashes\n-c pins.txt", pins="flask<4")
    argv = install_argv(UV, asked, config=given, source=Source.CACHE, wheels=True)
    assert argv == (
        *(*INSTALL, "--only-binary", "x", "--require-hashes", "--prerelease", "allow"),
        *("--default-index", "default=https://i/simple", "--index", "more=https://m/simple", "--offline"),
        *("--find-links", "wheels", "--find-links", "/srv/w", "--requirements", "requirements.txt"),
        *("--constraints", "constraints.txt"),
    )
    assert written_files(asked, given) == {"requirements.txt": "flask\n", "constraints.txt": "flask<4\n"}


def test_a_package_with_an_index_of_its_own_is_written_into_a_project() -> None:
    given = config(indexes=[CORP, {**CORP, "name": "other", "packages": ["other"]}])
    asked = wanted(
        "corp_lib[x]==1; python_version > '3'\nflask\ncorp-auth @ https://x/corp_auth-1-py3-none-any.whl\n"
    )
    files = written_files(asked, given)
    assert tomllib.loads(files["pyproject.toml"]) == {
        "project": {"name": "bound", "version": "0", "dependencies": ['corp-lib ; python_version > "3"']},
        "tool": {
            "uv": {
                "index": [{"name": "corp", "url": "https://corp/simple", "explicit": True}],
                "sources": {"corp-lib": {"index": "corp"}},
            }
        },
    }
    argv = install_argv(UV, asked, config=given, source=Source.INDEX, wheels=False)
    assert argv[-2:] == ("--requirements", "pyproject.toml")
    assert "pyproject.toml" not in install_argv(UV, asked, config=given, source=Source.LOCAL, wheels=True)


def test_a_package_that_another_one_brought_from_elsewhere_than_its_index_is_named() -> None:
    asked = wanted("flask\ncorp-lib\n")
    assert astray(asked, config(indexes=[CORP]), installed=["Flask", "corp_lib"]) == []
    assert astray(asked, config(indexes=[CORP]), installed=["Flask", "corp_auth"]) == ["corp-auth"]


def test_a_lock_is_exported_from_a_folder_of_its_own() -> None:
    assert needs_export(Wanted(Kind.LOCK, "uv.lock", {}))
    assert not needs_export(WANTED)
    assert export_argv(UV, python="/py") == (
        *("/uv", "export", *ALWAYS, "--quiet", "--project", "lock", "--frozen", "--no-emit-project"),
        *("--no-default-groups", "--no-header", "--no-annotate", "--python", "/py"),
        *("--output-file", "exported.txt"),
    )


def test_builds_that_a_release_asks_for_are_passed_on_where_they_are_allowed() -> None:
    asked = Wanted(Kind.REQUIREMENTS, "r", {}, no_binary=("x", ":all:"))
    given = config(only_binary=False, no_index=True)
    argv = install_argv(UV, asked, config=given, source=Source.LOCAL, wheels=True)
    assert argv == (
        *(*INSTALL, "--no-binary", "x", "--no-binary", ":all:", "--no-index", "--find-links", "wheels"),
        *("--requirements", "requirements.txt"),
    )


def test_nothing_that_was_installed_runs_while_compiling_or_asking() -> None:
    assert compile_argv("/py", final=Path("/f/k")) == (
        *("/py", "-I", "-S", "-m", "compileall", "-q", "-q", "-j", "0"),
        *("-x", "^lib/.*/tests/", "-p", "/f/k", "lib"),
    )
    assert facts_argv("/py")[:4] == ("/py", "-I", "-S", "-c")


def test_uv_sees_only_what_the_way_to_an_index_needs() -> None:
    agent = {
        "HOME": "/h",
        "https_proxy": "p",
        "SSL_CERT_FILE": "c",
        "UV_INDEX": "evil",
        "PYTHONPATH": "x",
        "NETRC": "/h/.netrc",
        "UV_CACHE_DIR": "/h",
        "NOTIFY_SOCKET": "/n",
        "LD_PRELOAD": "x",
    }
    assert uv_environment(agent, cache=Path("/c")) == {
        "PATH": CLEAN_PATH,
        "HOME": "/c",
        "LANG": "C.UTF-8",
        "https_proxy": "p",
        "SSL_CERT_FILE": "c",
        "NETRC": "/dev/null",
        "UV_CACHE_DIR": "/c/uv",
        "UV_HTTP_RETRIES": "2",
    }


def test_credentials_are_for_the_index_at_their_host() -> None:
    own = {"name": "my-own", "url": "https://b:8443/simple"}
    given = config(index_url="https://a/simple", indexes=[own, CORP])
    assert index_credentials(given, {"b": ("u", "p"), "elsewhere": ("x", "y")}) == {
        "UV_INDEX_MY_OWN_USERNAME": "u",
        "UV_INDEX_MY_OWN_PASSWORD": "p",
    }
    assert index_credentials(config(), {"elsewhere.example": ("u", "p")}) == {}


def test_credentials_do_not_go_over_the_network_in_the_clear() -> None:
    with pytest.raises(Refused, match="the index http://a/simple is not https"):
        index_credentials(config(index_url="http://a/simple"), {"a": ("u", "p")})
