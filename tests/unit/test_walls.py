"""Each wall between the parts holds: a wrong import is refused, and so is a module without a place.

`lint-imports` runs on a copy of the tree in which every contract is broken once.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

WRONG = {
    "floors": ("agent.host.clock", "agent.deploy.status"),
    "deploy": ("agent.deploy.status_line", "agent.deploy.recovery"),
    "steps": ("agent.deploy.steps.confirm", "agent.deploy.steps.switch"),
    "doors": ("agent.doors.http.guards", "agent.doors.drop.directory"),
    "wings": ("agent.host.systemd.unit_files", "agent.host.embedded.orphans"),
    "configuration": ("agent.core.config.values", "agent.core.config.app"),
    "requirements": ("agent.core.requirements.project", "agent.core.requirements.pylock"),
    "storage": ("agent.host.storage.disk", "agent.host.storage.journal"),
    "net": ("agent.host.net.proc", "agent.host.net.peer"),
    "log": ("agent.host.log.notify", "agent.host.log.stderr"),
    "run": ("agent.host.run.process", "agent.host.run.launch"),
    "bundle": ("agent.host.bundle.signers", "agent.host.bundle.tar"),
    "releases": ("agent.host.releases.content", "agent.host.releases.store"),
    "dependencies": ("agent.host.dependencies.stream", "agent.host.dependencies.receipt"),
    "drop": ("agent.host.drop.dropped_folder", "agent.host.drop.dropped_file"),
    "channel": ("agent.host.channel.web", "agent.host.channel.local_folder"),
    "notices": ("agent.host.notices.web", "agent.host.notices.mail"),
    "repository-server": ("agent.repository.objects", "agent.repository.server"),
    "channel-door": ("agent.doors.channel.result", "agent.doors.channel.subscription"),
    "systemd": ("agent.host.systemd.journalctl", "agent.host.systemd.process"),
    "embedded": ("agent.host.embedded.orphans", "agent.host.embedded.log_buffer"),
    "setup": ("agent.host.setup.app_user", "agent.host.setup.rights"),
    "any-machine": ("agent.deploy.rollback", "agent.host.systemd.start_record"),
    "one-journal": ("agent.deploy.reconcile", "sqlite3"),
    "units": ("agent.host.setup.app_folders", "agent.host.systemd.systemctl"),
    "zstd": ("agent.host.releases.unpack", "zstandard"),
    "http": ("agent.doors.ports", "aiohttp"),
    "extras": ("agent.doors.channel.reading", "obstore"),
    "subprocesses": ("agent.deploy.hooks", "subprocess"),
    "cli-floors": ("pusher.errors", "pusher.config"),
    "cli-dependencies": ("pusher.dependencies.lock", "pusher.dependencies.prepare"),
    "cli-run": ("pusher.run.servers", "pusher.run.found"),
    "cli-repository": ("pusher.repository.folder", "pusher.repository.releases"),
    "cli-dashboard": ("pusher.dashboard.guards", "pusher.dashboard.routes"),
    "cli-setup": ("pusher.setup.facts", "pusher.setup.plan"),
    "cli-commands": ("pusher.commands.verify", "pusher.commands.pack"),
    "admin-commands": ("agent.admin.trust", "agent.admin.init"),
    "thin-cli": ("pusher.transport.rsync", "agent.core.layout"),
    "one-shared-module": ("agent.host.dependencies.venvs", "pusher.errors"),
    "wire-alone": ("pusher.wire.text", "pusher.errors"),
    "pure-core": ("agent.core.phases", "asyncio"),
}
"""For each contract: the module that is changed, and what it must not import."""


def contracts() -> dict[str, dict[str, object]]:
    text = (REPOSITORY / "pyproject.toml").read_text()
    return {one["id"]: one for one in tomllib.loads(text)["tool"]["importlinter"]["contracts"]}


def lint(tree: Path) -> dict[str, str]:
    """The report on each broken contract of a copied tree, by the contract's name."""
    done = subprocess.run(
        (Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"),
        cwd=tree,
        env={**os.environ, "COLUMNS": "500"},  # no name is wrapped
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    parts = re.split(r"^([^\n]+)\n-+$", done.stdout.partition("Broken contracts")[2], flags=re.MULTILINE)
    return {name.strip(): report for name, report in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("agent", "pusher"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def file_of(tree: Path, module: str) -> Path:
    return tree / f"{module.replace('.', '/')}.py"


def test_each_contract_refuses_an_import_that_breaks_it(tree: Path) -> None:
    assert set(WRONG) == set(contracts()), "each contract has one wrong import here"
    for importer, imported in WRONG.values():
        with file_of(tree, importer).open("a") as file:
            file.write(f"import {imported}  # noqa\n")
    reports = lint(tree)
    for contract, (importer, imported) in WRONG.items():
        report = reports.get(str(contracts()[contract]["name"]), "")
        assert re.search(rf"{re.escape(importer)} ->\s+{re.escape(imported)}", report), (contract, report)


def test_each_exhaustive_contract_refuses_a_module_that_has_no_place(tree: Path) -> None:
    containers = {
        name: contract["name"]
        for contract in contracts().values()
        if contract.get("exhaustive")
        for name in contract["containers"]  # type: ignore[attr-defined]
    }
    for container in containers:
        file_of(tree, f"{container}.homeless").write_text("")
    reports = lint(tree)
    for container, name in containers.items():
        assert f"{container}.homeless" in reports.get(str(name), ""), container


def test_every_wing_of_the_host_is_inside_a_contract() -> None:
    containers = {name for one in contracts().values() for name in one.get("containers", [])}  # type: ignore[attr-defined]
    wings = {f"agent.host.{one.parent.name}" for one in (REPOSITORY / "agent/host").glob("*/__init__.py")}
    assert wings <= containers
