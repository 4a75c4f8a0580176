"""Secrets stay where they are, code travels, and what stays is named."""

from pathlib import Path

import pytest

from pusher.bundle.archive import read_bundle
from pusher.bundle.ignore import DEFAULTS
from tests.unit.scripted_agent import Run


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def packed(pusher: Run) -> list[str]:
    assert pusher("pack", "v3", "-o", "out") == 0
    return [entry.path for entry in read_bundle(Path("out")).entries]


@pytest.mark.parametrize(
    "name",
    [".env", ".env.production", "config/.env", "server.pem", "id_rsa", "deploy/id_ed25519", ".netrc", ".pgpass",
     "db.sqlite3", "credentials.json", "credentials-prod.json"],
)  # fmt: skip
def test_a_secret_stays_and_is_named(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """My secrets are not signed, sent and kept for years; I see which file stayed."""
    write(project / "app-src/v3", name)
    assert packed(pusher) == ["app.py"]
    assert f"left out by default: {name} (see: pusher ignored)\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [".env.example", ".env.sample", "id_generator.py", "id_map/core.py", "tools/venv/make.py", "list~", "data.swp",
     "src/.tox.ini", "pem.py", "environment.env"],
)  # fmt: skip
def test_code_travels_whatever_its_name_resembles(project: Path, pusher: Run, name: str) -> None:
    """My module is not hidden because its name looks like something else."""
    write(project / "app-src/v3", name)
    assert name in packed(pusher)


def test_a_backup_of_an_editor_stays(project: Path, pusher: Run) -> None:
    """`list~` is a file; `app.py~` beside `app.py` is what my editor left."""
    write(project / "app-src/v3", "list~", "app.py~")
    assert packed(pusher) == ["app.py", "list~"]


def test_a_secret_travels_if_i_say_so(project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """`!.env` in .pusherignore packs it, without a word."""
    write(project / "app-src/v3", ".env", "certs/ca.pem")
    (project / "app-src/v3/.pusherignore").write_text("!.env\n!/certs/ca.pem\n")
    assert packed(pusher) == [".env", "app.py", "certs/ca.pem"]
    assert "left out" not in capsys.readouterr().out


def test_many_things_that_stay_are_one_line(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, with what could be a secret first; not a page of caches."""
    folders = [f"p{number}/__pycache__/x.pyc" for number in range(30)]
    write(project / "app-src/v3", ".env", ".git/HEAD", "venv/bin/python", *folders)
    packed(pusher)
    said = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert said == ["left out by default: .env, __pycache__/ (30 times), venv/ (see: pusher ignored)"]


def test_ignored_lists_all_rules_and_each_file_with_its_rule(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """I can look up what never travels, and why a file did not."""
    assert pusher("ignored") == 0
    said = capsys.readouterr().out
    assert all(rule in said for rule in DEFAULTS)
    write(project / "app-src/v3", ".env", "notes.md", "venv/x")
    (project / "app-src/v3/.pusherignore").write_text("*.md\n")
    assert pusher("ignored", "v3") == 0
    assert capsys.readouterr().out.splitlines() == [
        "LEFT OUT       BY",
        ".env           .env (default)",
        ".pusherignore  .pusherignore (default)",
        "notes.md       *.md in .pusherignore",
        "venv/          /venv (default)",
    ]


def test_the_manual_lists_all_rules() -> None:
    """`man pusher` says what never travels."""
    page = (Path(__file__).parents[2] / "packaging/man/pusher.1").read_text()
    plain = page.replace("\\-", "-").replace("\\(ti", "~").replace("\\e", "\\")
    rules = [line.removeprefix(".B ").split() for line in plain.splitlines() if line.startswith(".B ")]
    assert {*DEFAULTS} <= {rule for line in rules for rule in line}
