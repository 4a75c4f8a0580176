"""docs/tutorial/first-releases.md, typed as it stands there: every command works, and says what the page shows."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.docs.documents import REPOSITORY
from tests.docs.transcripts import steps, unseen
from tests.ports import free_port

FOLDER = "/tmp/first-releases"
SET_UP = "make venv\nsource .venv/bin/activate\n"
pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(240)]


def typed(commands: list[str], *, checkout: Path, end: str) -> list[tuple[str, int]]:
    """What each of the commands said, all typed into one shell, and its exit code."""
    script = "".join(f"{{ {one}}} 2>&1\nprintf '\\n{end}%s{end}' $?\n" for one in commands)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PUSHER_")}
    shell = subprocess.Popen(
        ("bash", "-c", script),
        cwd=checkout,
        env=environment | {"PATH": f"{REPOSITORY / '.venv/bin'}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = shell.communicate(timeout=200)
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
    parts = said.split(end)
    return [(output, int(code)) for output, code in zip(parts[::2], parts[1::2], strict=False)]


def test_the_tutorial_works_as_it_is_written(tmp_path: Path, uv_cache: Path, flask_venv: Path) -> None:
    checkout, folder = tmp_path / "checkout", tmp_path / "first"
    checkout.mkdir()
    shutil.copytree(REPOSITORY / "app-src", checkout / "app-src")
    text = (REPOSITORY / "docs/tutorial/first-releases.md").read_text()
    for ours, theirs in ((str(folder), FOLDER), (str(free_port()), "9000"), (str(free_port()), "8000")):
        assert theirs in text
        text = text.replace(theirs, ours)
    (set_up, _), *shown = steps(text)
    assert set_up == SET_UP
    # The wheels are in the agent's cache: tests download them once.
    shown.insert(1, (f"mkdir -p root/var/cache && cp -r {uv_cache} root/var/cache/pusher-agent\n", ""))

    began = time.monotonic()
    said = typed([command for command, _ in shown], checkout=checkout, end="\x1e")
    assert len(said) == len(shown), said[-1:]
    for (command, lines), (output, code) in zip(shown, said, strict=True):
        assert code == 0, f"{command}\n{output}"
        assert not unseen(lines, output), f"{command}\n{output}"
    assert not folder.exists()
    commands = sum(len(command.replace("\\\n", "").splitlines()) for command, _ in shown) - 1
    assert commands <= 50  # a person types for ten minutes, and reads
    print(f"\nthe first releases: {commands} lines, {time.monotonic() - began:.0f} s")
