"""The Ansible role sets up a group of bare hosts. Run again, it changes nothing. A refused file is put back."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.host import make_key
from tests.system.machine import Machine, machine
from tests.system.server import APP, REPOSITORY, binds, prepare
from tests.system.ssh import Ssh

ROLE = REPOSITORY / "packaging/ansible"
NAMES = ("web1", "web2")
pytestmark = pytest.mark.timeout(300)


class Control:
    """The machine that runs Ansible."""

    def __init__(self, folder: Path, ssh: Ssh, package: Path, hosts: list[Machine]) -> None:
        self.folder, self.hosts = folder, hosts
        make_key(folder / "key")
        self.variables: dict[str, Any] = {
            "pusher_agent_package": str(package),
            "pusher_agent_trust": [{"key": (folder / "key.pub").read_text().strip(), "as": "tester"}],
            "pusher_agent_operators": ["alice"],
            "pusher_agent_apps": [
                {
                    "name": APP,
                    "config": 'keep_releases = 3\n[health]\npath = "/version"\nversion_member = "version"\n',
                }
            ],
        }
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "ANSIBLE_ROLES_PATH": str(ROLE / "roles"),
            "ANSIBLE_SSH_ARGS": f"-F {ssh.config} -o ControlMaster=auto -o ControlPersist=20s",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "LC_ALL": "C.UTF-8",
        }

    def play(self) -> "Played":
        """Run the role on all hosts; what Ansible says of it."""
        play = [{"hosts": "all", "become": True, "gather_facts": False, "roles": ["pusher_agent"]}]
        (self.folder / "play.yml").write_text(yaml.safe_dump(play))
        (self.folder / "variables.json").write_text(json.dumps(self.variables))
        words = (Path(sys.executable).with_name("ansible-playbook"), "play.yml", "-i", f"{','.join(NAMES)},")
        more = ("-e", "@variables.json")
        done = subprocess.run(
            (*words, *more), cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=200
        )
        recap = re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", done.stdout, re.M)
        assert len(recap) == len(NAMES), done.stdout + done.stderr
        return Played(
            done.stdout + done.stderr,
            changed={name: int(changed) for name, changed, _, _ in recap},
            failed={name: int(lost) + int(failed) for name, _, lost, failed in recap},
        )


@dataclass(frozen=True)
class Played:
    """What Ansible said, and how many tasks changed something, or failed, on each host."""

    text: str
    changed: dict[str, int]
    failed: dict[str, int]


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[Control]:
    folder = tmp_path_factory.mktemp("control")
    with ExitStack() as undo:
        ssh = Ssh(tmp_path_factory.mktemp("ssh"))
        hosts = []
        for name in NAMES:
            host = undo.enter_context(machine(folder / name, name, prepare=prepare, options=binds()))
            host.run("useradd", "--no-log-init", "--create-home", "alice")
            (host.root / "etc/sudoers.d/alice").write_text("alice ALL=(ALL) NOPASSWD:ALL\n")
            ssh.open(host, users=("alice",))
            hosts.append(host)
        yield Control(folder, ssh, package, hosts)


def test_a_group_of_bare_hosts_is_set_up_and_the_second_run_changes_nothing_and_a_refused_file_is_put_back(
    control: Control,
) -> None:
    first = control.play()
    assert first.failed == dict.fromkeys(NAMES, 0), first.text
    assert all(first.changed.values()), first.text
    for host in control.hosts:
        assert host.says("systemctl", "is-active", "pusher-agent.service").strip() == "active"
        assert host.says("pusher-agent", "app", "list").startswith(APP)
        assert "BAD" not in host.says("pusher-agent", "check")
        assert "pusher" in host.says("id", "alice")
        assert "tester" in (host.root / "etc/pusher-agent/allowed_signers").read_text()
    second = control.play()
    assert (second.changed, second.failed) == (dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)), second.text

    file = control.hosts[0].root / f"etc/pusher-agent/apps/{APP}.toml"
    before, apps = file.read_text(), control.variables["pusher_agent_apps"]
    control.variables["pusher_agent_apps"] = [{"name": APP, "config": "keep_release = 3\n"}]
    said = control.play()
    assert said.failed == dict.fromkeys(NAMES, 1), said.text
    assert "unknown key 'keep_release'" in said.text
    assert file.read_text() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    control.variables["pusher_agent_apps"] = [*apps, {"name": "other", "config": 'listen = "nowhere"\n'}]
    assert "other is as it was" in control.play().text
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    shutil.rmtree(control.folder / ".ansible", ignore_errors=True)
