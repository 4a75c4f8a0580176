"""What failed beside other tests is run again alone: few of them, named, and a lasting failure stays one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(folder: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, "-m", *argv], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tests that fail where the file `disturbed` lies, and those that fail always where `broken` lies."""
    (tmp_path / "test_it.py").write_text(
        "import pathlib, pytest\n"
        "@pytest.mark.parametrize('number', range(4))\n"
        "def test_it(number):\n"
        "    assert not pathlib.Path('broken').exists()\n"
        "    assert number >= len(list(pathlib.Path().glob('disturbed*')))\n"
    )
    return tmp_path


def test_what_holds_alone_is_named_and_fails_nothing(folder: Path) -> None:
    (folder / "disturbed").touch()
    assert run(folder, "pytest").returncode == 1
    (folder / "disturbed").unlink()
    done = run(folder, "tests.alone")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    assert done.stdout.endswith("To be mended, for alone these hold:\nDISTURBED test_it.py::test_it[0]\n")


def test_what_fails_alone_too_fails_the_run(folder: Path) -> None:
    (folder / "disturbed").touch()
    run(folder, "pytest")
    (folder / "broken").touch()
    done = run(folder, "tests.alone")
    assert done.returncode == 1
    assert "DISTURBED" not in done.stdout


def test_many_failures_are_not_run_again(folder: Path) -> None:
    for number in range(4):
        (folder / f"disturbed{number}").touch()
    run(folder, "pytest")
    for number in range(4):
        (folder / f"disturbed{number}").unlink()
    done = run(folder, "tests.alone")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_run_that_left_no_names_stays_failed(folder: Path) -> None:
    assert run(folder, "tests.alone").returncode == 1
