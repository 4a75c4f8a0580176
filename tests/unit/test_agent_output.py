"""Output of `pusher-agent` that cannot be written is reported in a sentence, and ends no work half way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = "pusher-agent: Standard output cannot be written: No space left on device. "


def shell(line: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `pusher-agent` is the command as it is installed, and $ROOT a folder."""
    program = "import sys; sys.argv[0] = 'pusher-agent'; from agent.__main__ import main; sys.exit(main())"
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; pusher-agent() {{ "$PYTHON" -c "$PROGRAM" "$@"; }}; {line}'],
        env={**os.environ, "PYTHON": sys.executable, "PROGRAM": program, "ROOT": str(root)},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("words", ["--version", "app list --help", "init --app shop"])
def test_what_cannot_be_written_is_a_failure_in_a_sentence(tmp_path: Path, words: str) -> None:
    done = shell(f'pusher-agent {words} --root "$ROOT" >/dev/full', tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(FULL)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", ["--version", "app list --help", "init --app shop"])
def test_a_closed_pipe_is_no_error(tmp_path: Path, words: str) -> None:
    done = shell(f'pusher-agent {words} --root "$ROOT" | true', tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("streams", ["| true", ">/dev/full", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_the_work_is_done_whatever_becomes_of_the_output(tmp_path: Path, streams: str) -> None:
    shell(f'pusher-agent init --root "$ROOT" --app shop {streams}', tmp_path)
    assert "shop" in (tmp_path / "etc/pusher-agent/apps/shop.toml").read_text()
    assert (tmp_path / "opt/shop").is_dir()


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", ">/dev/full 2>&1"])
def test_without_standard_error_the_exit_code_is_the_same(tmp_path: Path, streams: str) -> None:
    assert shell(f"pusher-agent frobnicate {streams}", tmp_path).returncode == 2
    assert shell(f'pusher-agent trust /nonexistent --as me --root "$ROOT" {streams}', tmp_path).returncode == 4


def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    place = tmp_path / "日"
    done = shell('PYTHONIOENCODING=ascii pusher-agent init --root "$ROOT" --app shop', place)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u65e5" in done.stdout
