"""The names of files are bytes: what is signed is what lies on the disk, in every locale."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pusher.bundle.archive import read_bundle
from tests.unit.scripted_agent import Run

LOCALES = ("C", "C.UTF-8", "en_US.ISO-8859-1")
NAMES = ("été.txt", "日.txt")


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which these locales exist."""
    made = tmp_path_factory.mktemp("locale")
    argv = ("localedef", "-i", "en_US", "-f", "ISO-8859-1", str(made / "en_US.ISO-8859-1"))
    done = subprocess.run(argv, capture_output=True, check=False)
    if not (made / "en_US.ISO-8859-1").exists():
        pytest.skip(f"localedef: {done.stderr.decode()}")
    return {"LOCPATH": str(made)}


def run(locale: str, locales: dict[str, str], *argv: str) -> "subprocess.CompletedProcess[bytes]":
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "PYTHON"))}
    environment |= {**locales, "LANG": locale, "LC_ALL": locale}
    return subprocess.run((sys.executable, *argv), capture_output=True, check=False, env=environment)


@pytest.mark.parametrize("locale", LOCALES)
def test_a_name_is_signed_as_it_is_in_every_locale(project: Path, locales: dict[str, str], locale: str) -> None:
    """`été.txt` is `été.txt` on the server too, whatever the locale of my machine."""
    for name in NAMES:
        (project / "app-src/v3" / name).touch()
    done = run(locale, locales, "-m", "pusher", "pack", "v3", "-o", "out")
    assert (done.returncode, done.stderr) == (0, b"")
    assert [entry.path for entry in read_bundle(project / "out").entries] == ["app.py", *NAMES]


def test_a_terminal_keeps_its_encoding(project: Path, locales: dict[str, str]) -> None:
    """What I read is in the encoding of my terminal."""
    os.mkfifo(project / "app-src/v3/é")
    done = run("en_US.ISO-8859-1", locales, "-m", "pusher", "pack", "v3")
    assert done.stderr.startswith("pusher: 'é' cannot be packed: it is a pipe".encode("latin-1"))


@pytest.mark.parametrize("locale", LOCALES)
def test_an_agent_writes_the_names_that_were_signed(
    project: Path, pusher: Run, locales: dict[str, str], tmp_path: Path, locale: str
) -> None:
    """The agent of a server whose /etc/default/locale says ISO-8859-1 makes the same files."""
    code = (
        "import sys, agent.__main__ as m, agent.admin.cli as c\n"
        "def run(argv):\n"
        "    open(sys.argv[1], 'w', encoding='utf-8').write(open('names', encoding='utf-8').read())\n"
        "    return print(sys.getfilesystemencoding()) or 0\n"
        "m.run = run\n"
        "sys.exit(m.main())\n"
    )
    (project / "run.py").write_text(code)
    (project / "names").write_text("x")
    done = run(locale, locales, "run.py", "日")
    assert (done.stdout, done.stderr) == (b"utf-8\n", b"")
    assert os.path.exists(os.fsencode("日"))


def test_a_name_that_is_no_utf8_is_refused_by_name(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """I am told which file it is, not that something cannot be encoded."""
    Path(os.fsdecode(os.fsencode(project / "app-src/v3") + b"/\xe9t\xe9.txt")).touch()
    assert pusher("pack", "v3") == 2
    assert "'\\udce9t\\udce9.txt' cannot be packed: '\\udce9t\\udce9.txt' is not a name in UTF-8" in (
        capsys.readouterr().err
    )
