"""Lines of requirements files that work on one machine alone, each with its own sentence and the way out."""

from pathlib import Path

import pytest

from tests.unit.scripted_agent import Run

CONDA = "numpy @ file:///home/conda/feedstock_root/build_artifacts/numpy_1/work"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            CONDA,
            "requirements.txt, line 2: numpy is to come from "
            "/home/conda/feedstock_root/build_artifacts/numpy_1/work: that is a place on another machine; "
            "conda writes such lines\n"
            "  Write its version: numpy==1.0. To list versions: pip list --format=freeze\n",
        ),
        (
            ".",
            "requirements.txt, line 2: . names no project: neither pyproject.toml nor setup.py is in {folder}\n"
            "  Take the line out: the folder of the release is on Python's path. Or add a pyproject.toml\n",
        ),
        (
            "-e .",
            "requirements.txt, line 2: -e . names no project: neither pyproject.toml nor setup.py is in {folder}\n"
            "  Take the line out: the folder of the release is on Python's path. Or add a pyproject.toml\n",
        ),
        (
            "-e git+https://git.example.com/x.git#egg=x",
            "requirements.txt, line 2: a repository cannot be editable\n"
            "  Leave out -e: the release gets the commit of today, built\n",
        ),
        (
            "./libs/shared",
            "requirements.txt, line 2: ./libs/shared is not there: {folder}/libs/shared does not exist\n",
        ),
        (
            r"C:\wheels\x-1-py3-none-any.whl",
            r"requirements.txt, line 2: C:\wheels\x-1-py3-none-any.whl is a path of Windows"
            "\n"
            "  Write it relative to this file, with /\n",
        ),
    ],
)
def test_a_line_that_cannot_be_had_elsewhere_is_named(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    """`pip freeze` wrote it; I am told which line, why not, and what to write."""
    folder = project / "app-src/v3"
    (folder / "requirements.txt").write_text(f"flask==3.0.3\n{line}\n")
    assert pusher("pack", "v3") == 2
    assert capsys.readouterr().err == f"pusher: {said.format(folder=folder)}"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_a_file_of_powershell_is_named(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    """PowerShell's `>` writes UTF-16."""
    raw = "flask==3.0.3\r\n".encode(encoding)
    (project / "app-src/v3/requirements.txt").write_bytes(raw if encoding == "utf-16" else b"\xff\xfe" + raw)
    assert pusher("pack", "v3") == 2
    assert capsys.readouterr().err == (
        "pusher: requirements.txt cannot be used: it is UTF-16\n"
        "  Save it as UTF-8, in PowerShell: pip freeze | Out-File -Encoding utf8 requirements.txt\n"
    )


def test_a_repository_that_cannot_be_read_is_named(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """I am told how to see whether it is mine to read."""
    line = "shop @ git+file:///nowhere/shop.git"
    (project / "app-src/v3/requirements.txt").write_text(f"{line}\n")
    assert pusher("pack", "v3") == 2
    assert "To see: git ls-remote file:///nowhere/shop.git\n" in capsys.readouterr().err
