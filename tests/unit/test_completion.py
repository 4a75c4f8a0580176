"""Completion offers what the parser accepts, and nothing that a shell could run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pusher.cli.candidates import candidates
from pusher.commands.completion import script


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("v1", "v2", "$(touch owned)", "-rf"):
        (tmp_path / "app-src" / name).mkdir(parents=True)
    (tmp_path / "pusher.toml").write_text('[hosts.web1]\naddress="web1"\n[hosts."x;y"]\naddress="y"\n')
    (tmp_path / "flask-demo-v1.tar.zst").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = [
    *(
        "cancel",
        "channel",
        "completion",
        "dashboard",
        "diff",
        "doctor",
        "drop",
        "fleet",
        "history",
        "ignored",
        "init",
        "logs",
        "pack",
        "pin",
        "publish",
        "releases",
        "repository",
        "rollback",
        "rollout",
        "run",
        "send",
        "setup",
        "sign",
        "status",
        "unpin",
        "verify",
    ),
]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([""], ["--help", "--version", *COMMANDS]),
        ([], ["--help", "--version", *COMMANDS]),
        (["p"], ["pack", "pin", "publish"]),
        (["send", ""], ["v1", "v2"]),
        (["send", "v1", "--h"], ["--help", "--host"]),
        (["send", "v1", "--host", ""], ["all", "web1"]),
        (["send", "v1", "--host", "=", "we"], ["web1"]),
        (["send", "--key", ""], []),
        (["verify", "--"], ["--help", "--json", "--signers"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["verify", ""], []),
        (["diff", ""], ["v1", "v2"]),
        (["logs", "--unit", ""], ["hook", "preflight", "service", "socket"]),
    ],
)
def test_what_could_come_next_is_offered(project: Path, words: list[str], found: list[str]) -> None:
    assert candidates(words) == found


def test_a_broken_pusher_toml_offers_nothing(project: Path) -> None:
    (project / "pusher.toml").write_text("=")
    assert candidates(["send", ""]) == []


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """PATH with a `pusher` in front."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "pusher"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={Path.cwd()} exec {sys.executable} -m pusher "$@"\n')
    command.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.fixture
def run_in(environment: dict[str, str], project: Path) -> object:
    def run(*argv: str) -> list[str]:
        done = subprocess.run(argv, env=environment, cwd=project, capture_output=True, text=True, check=True)
        return done.stdout.split()

    return run


def test_bash_completes(run_in: object) -> None:
    assert callable(run_in)
    for line, found in (
        ("pusher send ", ["v1", "v2"]),
        ("pusher send v1 --host=w", ["web1"]),
        ("pusher ro", ["rollback", "rollout"]),
        ("pusher verify ", []),
    ):
        program = f"""{script("bash")}
            read -ra COMP_WORDS <<<{line.replace("=", " = ")!r}
            [[ {line!r} == *' ' ]] && COMP_WORDS+=("")
            COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
            _pusher
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        assert run_in("bash", "-c", program) == found


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_takes_the_script(run_in: object) -> None:
    assert callable(run_in)
    program = f"autoload -Uz compinit; compinit -u -D; {script('zsh')}\n print $_comps[pusher]"
    assert run_in("zsh", "-fc", program) == ["_pusher"]


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes(run_in: object) -> None:
    assert callable(run_in)
    found = run_in("fish", "--no-config", "-c", f"{script('fish')}\ncomplete -C 'pusher completion '")
    assert {"bash", "fish", "zsh"} <= {*found}
