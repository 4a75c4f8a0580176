"""The examples for those who set up servers by Ansible or cloud-init: they can be read, and type what is there."""

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.admin import cli
from agent.core.config.app import parse_app
from tests.docs.documents import REPOSITORY

CLOUD_INIT = REPOSITORY / "packaging/cloud-init/user-data.yml"


def typed() -> list[list[str]]:
    return [words for words in yaml.safe_load(CLOUD_INIT.read_text())["runcmd"] if words[0] == "pusher-agent"]


def test_a_new_server_types_what_pusher_agent_knows() -> None:
    text = CLOUD_INIT.read_text()
    assert text.startswith("#cloud-config\n")
    for words in typed():
        arguments = cli.parser().parse_args(words[1:])
        assert arguments, shlex.join(words)
    assert [words[1] for words in typed()] == ["trust", "app"]
    written = {one["path"] for one in yaml.safe_load(text)["write_files"]}
    assert typed()[0][2] in written


@pytest.mark.skipif(not shutil.which("cloud-init"), reason="cloud-init is not installed")
def test_cloud_init_accepts_it() -> None:
    done = subprocess.run(
        ("cloud-init", "schema", "--config-file", str(CLOUD_INIT)), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_app_of_the_example_for_ansible_can_be_used() -> None:
    play: list[dict[str, Any]] = yaml.safe_load((REPOSITORY / "packaging/ansible/example.yml").read_text())
    (app,) = play[0]["roles"][0]["pusher_agent_apps"]
    assert parse_app(app["config"], file="example", app=app["name"]).health.version_member == "version"


def test_every_setting_of_the_role_stands_in_its_defaults() -> None:
    role = REPOSITORY / "packaging/ansible/roles/pusher_agent"
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    used = {
        word.strip(" {}")
        for file in (role / "tasks").glob("*.yml")
        for word in Path(file).read_text().replace("|", " ").split()
        if word.startswith("pusher_agent_") and word.strip(" {}").isidentifier()
    }
    assert {*defaults} <= used
