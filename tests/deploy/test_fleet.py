"""The real `pusher` command against several running agents."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.shell import Shell
from tests.host import APP, Host, hook, running, wsgi

FAILS = hook("echo the table is locked; exit 3")
WAITS = hook("while [ ! -e {} ]; do sleep 0.02; done; exit 3")


@pytest.fixture
async def other(tmp_path: Path, host: Host, uv_cache: Path, ready_venvs: Path) -> AsyncIterator[Host]:
    """A second host, web2; web1 is `host`."""
    made = Host(tmp_path / "other", uv_cache=uv_cache, venvs=ready_venvs, name="web2")
    made.trust(host.key, "tester")
    async with running(made):
        yield made


@pytest.fixture
async def shell(host: Host, other: Host) -> Shell:
    shell = Shell(host)
    hosts = {"web1": host, "web2": other, "web3": None}
    (shell.project / "pusher.toml").write_text(
        "".join(
            f'[hosts.{name}]\naddress = "http://127.0.0.1:{one.door if one else 1}"\n'
            for name, one in hosts.items()
        )
    )
    shell.environment["PUSHER_HOST"] = "web1 web2"
    for version in ("v1", "v2", "v3"):
        shell.version(version)
    return shell


def host_hook(host: Host, text: str) -> None:
    """A hook of the host's own, which runs before the switch."""
    file = host.layout.hooks(APP) / "before-symlink"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    file.chmod(0o755)


def summary(said: str) -> dict[str, str]:
    """The outcome of each host."""
    lines = said.partition("\nHOST ")[2].splitlines()
    return {line.split()[0]: line for line in lines[1:] if line.startswith("web")}


async def test_all_or_none_takes_back_what_went_live_and_says_so(shell: Shell, host: Host, other: Host):
    code, said = await shell.pusher("send", "v1")
    assert code == 0, said
    assert [line.split()[1] for line in summary(said).values()] == ["done", "done"]
    host_hook(other, FAILS)
    code, said = await shell.pusher("send", "v2", "--all-or-none")
    assert code == 1, said
    assert [await one.serving() for one in (host, other)] == ["v1", "v1"]
    rows = summary(said)
    assert "taken back" in rows["web1"]
    assert "failed" in rows["web2"]
    assert said.rstrip().endswith("the table is locked")
    code, said = await shell.pusher("send", "v3", "--all-or-none", "--in-turn")
    assert code == 1, said
    assert [await one.serving() for one in (host, other)] == ["v1", "v1"]
    code, said = await shell.pusher("send", "v2")
    assert code == 1
    assert [await one.serving() for one in (host, other)] == ["v2", "v1"]


async def test_a_later_deployment_and_an_earlier_release_are_left_alone(shell: Shell, host: Host, other: Host):
    assert (await shell.pusher("send", "v1"))[0] == 0
    gate = other.root / "go"
    host_hook(other, WAITS.format(gate))
    process = await shell.start("send", "v2", "--all-or-none")
    status: dict[str, Any] = {}
    async with asyncio.timeout(60):
        while status.get("deploying", ...) or status["live"]["version"] != "v2":
            _, status = await host.request("GET", "/status")
    await host.deploy(wsgi("v4"), "v4")
    gate.touch()
    said, _ = await process.communicate()
    assert process.returncode == 1, said
    assert "left alone" in summary(said.decode())["web1"]
    assert await host.serving() == "v4"

    code, said = await shell.pusher("pack", "v3", "-o", "v3.tar.zst")
    assert code == 0, said
    assert (await shell.pusher("send", "v3.tar.zst", PUSHER_HOST="web1"))[0] == 0
    code, said = await shell.pusher("send", "v3.tar.zst", "--all-or-none")
    assert code == 1, said
    assert "was live already" in summary(said)["web1"]
    assert await host.serving() == "v3"


async def test_a_first_release_cannot_be_taken_back_and_needs_a_person(shell: Shell, host: Host, other: Host):
    host_hook(other, FAILS)
    code, said = await shell.pusher("send", "v1", "--all-or-none")
    assert code == 6, said
    assert "stuck" in summary(said)["web1"]
    assert "it is the first release there" in said
    assert await host.serving() == "v1"


async def test_a_manifest_that_one_host_refuses_changes_none(shell: Shell, host: Host, other: Host):
    other.layout.allowed_signers.write_text("")
    code, said = await shell.pusher("send", "v1")
    assert code == 4, said
    assert "Nothing was changed on any host: web2 would refuse" in said
    _, status = await host.request("GET", "/status")
    assert status["last"] is None


async def test_unreachable_hosts_are_named_and_skipped_only_when_asked_to(shell: Shell, host: Host, other: Host):
    shell.environment["PUSHER_HOST"] = "web1 web3 web2"
    code, said = await shell.pusher("send", "v1")
    assert code == 5, said
    assert "To go on without web3: --skip-unreachable" in said
    code, said = await shell.pusher("send", "v1", "--skip-unreachable")
    assert code == 0, said
    assert [line.split()[:2] for line in summary(said).values()] == [
        ["web1", "done"],
        ["web3", "skipped"],
        ["web2", "done"],
    ]
    assert (await shell.pusher("send", "v2", "--skip-unreachable"))[0] == 0
    code, said = await shell.pusher("rollback", "--skip-unreachable", "--parallel", "1")
    assert code == 0, said
    assert [await one.serving() for one in (host, other)] == ["v1", "v1"]


async def test_ctrl_c_ends_at_once_and_says_for_each_host_what_goes_on(shell: Shell, host: Host, other: Host):
    gate = host.root / "go"
    for one in (host, other):
        host_hook(one, f"#!/bin/sh\ntouch {one.root}/begun; while [ ! -e {gate} ]; do sleep 0.02; done\n")
    process = await shell.start("send", "v1", "--all-or-none")
    ended = asyncio.create_task(process.communicate())
    while not all((one.root / "begun").exists() for one in (host, other)):
        await asyncio.wait([ended], timeout=0.02)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(15):
        said = (await ended)[0].decode()
    assert process.returncode == 130, said
    assert [line.split()[1] for line in summary(said).values()] == ["interrupted", "interrupted"]
    gate.touch()
    for name, one in (("web1", host), ("web2", other)):
        words = said.partition(f"goes on at {name}. To follow it: pusher status ")[2].splitlines()[0].split()
        code, followed = await shell.pusher("status", *words)
        assert code == 0, followed
        assert await one.serving() == "v1"
