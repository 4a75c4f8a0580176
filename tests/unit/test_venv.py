"""How a venv is named, and the commands that make it."""

from pathlib import Path

import pytest

from agent.core.config import Dependencies
from agent.core.environment import CLEAN_PATH
from agent.core.requirements import Kind, Wanted
from agent.core.venv import (
    Source,
    compile_argv,
    export_argv,
    facts_argv,
    install_argv,
    make_argv,
    sources,
    uv_environment,
    venv_key,
)

UV, INTO = Path("/uv"), Path("/s/venv-k")
WANTED = Wanted(Kind.REQUIREMENTS, "requirements.txt", {"requirements.txt": "aa"}, hashed=False)
LOCKED = Wanted(Kind.LOCK, "sub/uv.lock", {"sub/uv.lock": "aa"}, hashed=True)
ALWAYS = ("--no-config", "--no-python-downloads", "--color", "never", "--no-progress")


def key(
    wanted: Wanted = WANTED, *, python: str = "3.11", wheels: dict[str, str] | None = None, **options: object
) -> str:
    config = Dependencies.model_validate(options)
    return venv_key(wanted, python=python, config=config, wheels=wheels or {})


def test_equal_inputs_give_the_same_short_key() -> None:
    assert key() == key(deadline_s=5, credentials_file="/x")
    assert len(key()) == 16


def test_every_input_that_matters_changes_the_key() -> None:
    others = [
        key(Wanted(Kind.REQUIREMENTS, "requirements.txt", {"requirements.txt": "bb"}, hashed=False)),
        key(python="3.12"),
        key(wheels={"x.whl": "cc"}),
        key(only_binary=False),
        key(index_url="https://example.org/simple"),
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
    assert sources(Dependencies(no_index=no_index), wheels=wheels) == expected


def test_a_venv_is_made_relocatable_and_without_a_look_at_projects() -> None:
    assert make_argv(UV, python="/usr/bin/python3", into=INTO) == (
        *("/uv", "venv", *ALWAYS, "--quiet", "--no-project", "--relocatable"),
        *("--python", "/usr/bin/python3", "/s/venv-k"),
    )


def test_only_wheels_are_installed_as_copies_and_from_the_default_index() -> None:
    config = Dependencies()
    argv = install_argv(UV, WANTED, into=INTO, config=config, source=Source.INDEX, wheels=False)
    assert argv == (
        *("/uv", "pip", "install", *ALWAYS, "--system-certs", "--link-mode", "copy"),
        *("--python", "/s/venv-k/bin/python", "--no-build", "--requirements", "requirements.txt"),
    )


def test_an_own_index_and_own_places_are_passed_on() -> None:
    config = Dependencies(index_url="https://i/simple", find_links=["/srv/w"], only_binary=False)
    argv = install_argv(UV, WANTED, into=INTO, config=config, source=Source.CACHE, wheels=True)
    assert argv == (
        *("/uv", "pip", "install", *ALWAYS, "--system-certs", "--link-mode", "copy"),
        *("--python", "/s/venv-k/bin/python", "--default-index", "https://i/simple", "--offline"),
        *("--find-links", "wheels", "--find-links", "/srv/w", "--requirements", "requirements.txt"),
    )


def test_a_lock_is_exported_with_its_hashes_which_are_then_enforced() -> None:
    assert export_argv(UV, LOCKED, python="/py", into=INTO) == (
        *("/uv", "export", *ALWAYS, "--quiet", "--project", "sub", "--frozen", "--no-emit-project"),
        *("--no-default-groups", "--no-header", "--no-annotate", "--python", "/py"),
        *("--output-file", "/s/venv-k/requirements.lock.txt"),
    )
    argv = install_argv(UV, LOCKED, into=INTO, config=Dependencies(), source=Source.LOCAL, wheels=True)
    assert argv[-7:] == (
        *("--no-build", "--require-hashes", "--no-index", "--find-links", "wheels"),
        *("--requirements", "/s/venv-k/requirements.lock.txt"),
    )


def test_nothing_that_was_installed_runs_while_compiling_or_asking() -> None:
    assert compile_argv("/py", built=INTO, final=Path("/f/k")) == (
        *("/py", "-I", "-S", "-m", "compileall", "-q", "-q", "-j", "0"),
        *("-s", "/s/venv-k", "-p", "/f/k", "/s/venv-k/lib"),
    )
    assert facts_argv("/py")[:4] == ("/py", "-I", "-S", "-c")


def test_uv_sees_only_what_the_way_to_an_index_needs() -> None:
    agent = {"HOME": "/h", "https_proxy": "p", "SSL_CERT_FILE": "c", "UV_INDEX": "evil", "PYTHONPATH": "x"}
    assert uv_environment(agent, cache=Path("/c"), credentials=Path("/n")) == {
        "PATH": CLEAN_PATH,
        "HOME": "/h",
        "LANG": "C.UTF-8",
        "https_proxy": "p",
        "SSL_CERT_FILE": "c",
        "UV_CACHE_DIR": "/c/uv",
        "UV_HTTP_RETRIES": "2",
        "NETRC": "/n",
    }
    assert uv_environment({}, cache=Path("/c"), credentials=None)["HOME"] == "/c"
