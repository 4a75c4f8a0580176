"""The `pusher` command in a project of its own, and a scripted agent."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher import __main__
from tests.unit.scripted_agent import DONE, EVENTS, STARTED, STATUS, STEP, UPLOAD, Run
from tests.unit.scripted_door import ScriptedDoor, answer, events

NOBODY = 65534


@pytest.fixture
def project(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a project with the version v3, and nothing in the environment that counts."""
    for name in [name for name in os.environ if name.startswith("PUSHER_")]:
        monkeypatch.delenv(name)
    (tmp_path / "app-src/v3").mkdir(parents=True)
    (tmp_path / "app-src/v3/app.py").write_text("app = None\n")
    (tmp_path / "pusher.toml").write_text(f'app = "flask-demo"\nkey = "{key}"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def door(project: Path) -> Iterator[ScriptedDoor]:
    made = ScriptedDoor()
    made.on("GET", "/apps/flask-demo/status", answer(STATUS))
    made.on("POST", UPLOAD, STARTED)
    made.on("GET", EVENTS, events(STEP, None, DONE))
    yield made
    made.close()


@pytest.fixture
def pusher(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command as the console script does; its exit code."""

    def run(*argv: str) -> int:
        monkeypatch.setattr(sys, "argv", ["pusher", *argv])
        return __main__.main()

    return run


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder, and nothing that root may do beyond everybody."""
    with tempfile.TemporaryDirectory() as made:
        if os.geteuid() == 0:
            os.chown(made, NOBODY, NOBODY)
            os.seteuid(NOBODY)
            try:
                yield Path(made)
            finally:
                os.seteuid(0)
        else:
            yield Path(made)
