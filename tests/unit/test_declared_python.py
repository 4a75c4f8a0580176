"""The version of Python that a folder names."""

from pathlib import Path

import pytest

from pusher.run.python import declared_python
from pusher.run.section import run_section
from pusher.wire import RunSection


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        (".python-version", "3.13\n", "3.13"),
        (".python-version", "# for pyenv\n\n  3.12.4  \n3.11.9\n", "3.12.4"),
        (".python-version", "cpython@3.13", "3.13"),
        ("runtime.txt", "python-3.11.4\r\n", "3.11.4"),
        ("runtime.txt", "\ufeffpython-3.11.4", "3.11.4"),
        (".python-version", "\n", ""),
    ],
)
def test_a_file_names_one_version(tmp_path: Path, name: str, text: str, version: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    assert declared_python(tmp_path) == (version, name if version else "", "")


@pytest.mark.parametrize("text", ["pypy3.10", "3", ">=3.12", "my-environment", "3.13t", "2.7.18", "system"])
def test_a_file_that_names_something_else_is_passed_over_with_a_word(tmp_path: Path, text: str) -> None:
    (tmp_path / ".python-version").write_text(text)
    found = declared_python(tmp_path)
    assert (found.version, found.by) == ("", "")
    assert found.note == f".python-version names {text!r}, which is no version of CPython: the host chooses"


def test_a_file_that_cannot_be_read_names_nothing(tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_bytes(b"\xff\xfe3\x00")
    (tmp_path / "runtime.txt").mkdir()
    assert declared_python(tmp_path) == ("", "", "")


def test_what_pusher_toml_says_comes_first(tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text("3.12")
    assert declared_python(tmp_path, wanted="3.13") == ("3.13", "pusher.toml", "")
    said = run_section(tmp_path, RunSection(python="3.13", start="x"), packages=())
    assert said.section.python == "3.13"


def test_the_version_travels_signed(tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text("3.12")
    assert run_section(tmp_path, RunSection(start="x"), packages=()).section.python == "3.12"
    assert run_section(tmp_path, RunSection(), packages=()).section.python == "3.12"
