"""docs/how-to/ci.md: its jobs are YAML, its pusher.toml is read, and what they type is what `pusher` knows."""

import shlex
from pathlib import Path
from typing import Any

import yaml

from pusher.cli.parser import parser
from pusher.config import load
from tests.docs.documents import REPOSITORY, blocks

TEXT = (REPOSITORY / "docs/how-to/ci.md").read_text()


def jobs() -> list[dict[Any, Any]]:
    return [yaml.safe_load(block) for language, block in blocks(TEXT) if language == "yaml"]


def typed() -> list[str]:
    github, gitlab = jobs()
    steps = [step["run"] for step in github["jobs"]["deploy"]["steps"] if "run" in step]
    return [line for step in steps for line in step.splitlines()] + [
        *gitlab["deploy"]["before_script"],
        *gitlab["deploy"]["script"],
    ]


def test_what_the_jobs_type_is_what_pusher_knows() -> None:
    commands = [line.removeprefix("~/.local/bin/") for line in typed()]
    ours = [shlex.split(line)[1:] for line in commands if line.startswith("pusher ")]
    assert len(ours) == 2
    for words in ours:
        assert parser([words[0]]).parse_args(words).env == "production"


def test_the_file_of_the_project_finds_its_keys_where_the_jobs_write_them(tmp_path: Path) -> None:
    (text,) = (block for language, block in blocks(TEXT) if language == "toml")
    (tmp_path / "pusher.toml").write_text(text)
    settings = load({"env": "production"}, environment={}, start=tmp_path)
    assert [host.name for host in settings.chosen] == ["web1"]
    assert settings.key == str(tmp_path / ".ci/signs")
    written = {line.rpartition(" >")[2] for line in typed() if line.startswith("echo ")}
    assert written == {".ci/signs", ".ci/way-in", ".ci/known_hosts"}
    assert all(name in settings.ssh for name in written - {".ci/signs"})
