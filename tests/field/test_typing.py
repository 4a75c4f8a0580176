"""What a tired person types wrong: what could not be done, why, and what to do next, in plain English."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.__main__ import main
from pusher.bundle.archive import read_bundle
from tests.unit.conftest import NOBODY, as_nobody
from tests.unit.scripted_agent import Run

__all__ = ["as_nobody"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "send v3 --hots web1",
            "pusher: `pusher send` has no option '--hots'\n  Did you mean --host?\n",
        ),
        (
            "send v3 --qqqqq=1",
            "pusher: `pusher send` has no option '--qqqqq=1'\n  See: pusher send --help\n",
        ),
        (
            "send v3 v4",
            "pusher: `pusher send` has no use for 'v4': there is a word too many\n  See: pusher send --help\n",
        ),
        ("--hlep", "pusher: pusher has no option '--hlep'\n  Did you mean --help?\n"),
        (
            "--host web1 send v3",
            "pusher: pusher has no option '--host'\n"
            "  Options follow the command, as in `pusher send v3 --host web1`. See: pusher --help\n",
        ),
    ],
)
def test_a_word_that_has_no_meaning_is_named_with_the_nearest_one(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    """I mistype an option, and read which one I meant: not the help of all commands."""
    try:
        code: int | str | None = pusher(*line.split())
    except SystemExit as ending:
        code = ending.code
    assert (code, capsys.readouterr().err) == (2, said)


@pytest.mark.parametrize("name", ["", " ", "web1\n"])
def test_a_bundle_for_a_host_without_a_name_is_not_made(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """`--for "$HOST"` in my script, and HOST is empty: no agent would read that bundle."""
    with pytest.raises(SystemExit):
        pusher("pack", "v3", "-o", "out", "--for", name)
    assert f"{name!r} is not the name of a host" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_bundle_may_have_a_long_name(project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A name of 255 bytes is a name; one more, and I am told that it is too long."""
    name = "é" * 127 + "x"
    assert pusher("pack", "v3", "-o", name) == 0
    assert read_bundle(Path(name)).manifest.version == "v3"
    assert pusher("pack", "v3", "-o", f"{name}x") == 2
    assert "cannot be written: File name too long\n  Give it a shorter name\n" in capsys.readouterr().err


def test_where_i_may_not_write_i_am_told_so(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is missing, or not mine, or a file."""
    Path("file").touch()
    for name, why, hint in (
        ("gone/out", "No such file or directory", "Make its folder first"),
        ("file/out", "Not a directory", "Make its folder first"),
        ("app-src", "Is a directory", "Name a file in it"),
    ):
        assert pusher("pack", "v3", "-o", name) == 2
        assert capsys.readouterr().err == f"pusher: {name} cannot be written: {why}\n  {hint}\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [("pack v3 -o out", "File too large"), ("verify bundle", "No usable temporary directory found in ")],
)
def test_a_full_disk_of_mine_is_a_sentence(project: Path, pusher: Run, words: str, why: str) -> None:
    """My disk is full: that is no bug of pusher, I read what to do, and no half of a bundle is left."""
    assert pusher("pack", "v3", "-o", "bundle") == 0
    (project / "app-src/v3/requirements.txt").touch()
    there = sorted(project.iterdir())
    # No file may have a byte: what a full disk does to every file, without a disk.
    argv = ("bash", "-c", f'ulimit -f 0; exec "$0" -m pusher {words}', sys.executable)
    environment = {**os.environ, "XDG_CACHE_HOME": str(project / "app-src/cache")}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith(f"pusher: This machine has no room for what the command has to write: {why}")
    assert done.stderr.endswith(
        "\n  Make room. TMPDIR names the folder of temporary files, XDG_CACHE_HOME that of what is kept\n"
    )
    assert sorted(project.iterdir()) == there


def test_an_agent_without_a_folder_is_not_begun_beneath_the_root(capsys: pytest.CaptureFixture[str]) -> None:
    """I typed `pusher-agent init` on a server: it must not mix with what the package puts there."""
    assert main(["init"]) == 4
    assert capsys.readouterr().err == (
        "pusher-agent: No folder is named for the agent: it keeps everything beneath one. Name it: pusher-agent "
        "init --root DIR. A server gets its agent by the Debian package\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
@pytest.mark.parametrize("words", ["serve", "init --app shop", "check", "app list", "identity", "notify --test"])
def test_an_agents_folder_that_is_not_mine_is_no_bug(
    as_nobody: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    """I forgot sudo: I am told so, without a traceback."""
    os.seteuid(0)
    folder = as_nobody / "root"
    try:
        assert main(["init", "--root", str(folder)]) == 0
        folder.chmod(0o700)
    finally:
        os.seteuid(NOBODY)
    capsys.readouterr()
    assert main([*words.split(), "--root", str(folder)]) in (1, 4)
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert "Traceback" not in said
    assert "ermission denied" in said


@pytest.mark.parametrize("what", ["gone", "folder", "/dev/zero", "picture"])
def test_a_file_that_is_no_key_is_named_in_plain_english(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """No number of an error, no word of Python; and /dev/zero does not fill my memory."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff")
    main(["init", "--root", str(tmp_path / "root")])
    capsys.readouterr()
    whys = {
        "gone": "No such file or directory",
        "folder": "Is a directory",
        "/dev/zero": "it has more than 1048576 bytes",
        "picture": "it is no text in UTF-8",
    }
    file = tmp_path / what
    for argv in (
        ("trust", str(file), "--as", "me", "--root", str(tmp_path / "root")),
        ("init", "--trust", str(file), "--root", str(tmp_path / "other")),
    ):
        assert main(argv) == 4
        assert capsys.readouterr().err == (
            f"pusher-agent: The key {file} could not be read: {whys[what]}. Name another file\n"
        )
    assert main(["repository", "serve", str(tmp_path), "--config", str(file)]) == 4
    assert capsys.readouterr().err == f"pusher-agent: {file} could not be read: {whys[what]}. Name another file\n"


def test_an_address_that_cannot_be_is_explained_without_a_pattern(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """I am shown an address that could be, not a regular expression."""
    assert main(["init", "--root", str(tmp_path), "--local", "0.0.0.0:9000"]) == 4
    assert capsys.readouterr().err == (
        f"pusher-agent: {tmp_path}/etc/pusher-agent/agent.toml: 'door.address' is '0.0.0.0:9000': "
        'a loopback address with a port, such as "127.0.0.1:9000", is needed\n'
    )


@pytest.mark.parametrize("what", ["gone", "folder", "picture"])
def test_a_file_that_is_no_hosts_key_is_named_in_plain_english(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """`pusher fleet adopt` of the wrong file."""
    Path("folder").mkdir()
    Path("picture").write_bytes(b"\x89PNG\xff")
    whys = {"gone": "No such file or directory", "folder": "Is a directory", "picture": "it is no text in UTF-8"}
    assert pusher("fleet", "adopt", what) == 2
    assert capsys.readouterr().err == (
        f"pusher: {what} cannot be read: {whys[what]}\n"
        "  Name the file with what `pusher-agent identity` printed on the host\n"
    )


def test_a_state_that_there_is_not_is_no_empty_list(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--state curent` does not tell me that no host is current."""
    with pytest.raises(SystemExit):
        pusher("fleet", "status", "--state", "curent")
    assert "'current', 'waiting'" in capsys.readouterr().err
