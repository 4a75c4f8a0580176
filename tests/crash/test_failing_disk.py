"""Every labelled change of the disk fails once: what is live stays, and the next deployment succeeds."""

import asyncio
from pathlib import Path

import pytest

import agent.__main__
from agent.host.storage.disk import Disk
from pusher.wire import Code, Failed
from tests.host import Host, hook, running, wsgi


class FragileDisk(Disk):
    """Remembers the labels of what it does; fails at the one it is told."""

    seen: list[str] = []  # noqa: RUF012 - shared on purpose: the agent makes its own instance
    fail_at = ""

    def _at(self, op: str) -> None:
        if op == FragileDisk.fail_at:
            FragileDisk.fail_at = ""
            raise Failed(Code.DISK_ERROR, f"Could not do {op}", why="Input/output error")
        FragileDisk.seen.append(op)


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> type[FragileDisk]:
    monkeypatch.setattr(agent.__main__, "Disk", FragileDisk)
    FragileDisk.seen, FragileDisk.fail_at = [], ""
    return FragileDisk


async def test_whichever_change_fails_before_the_commit_the_old_release_serves_as_before(
    fragile: type[FragileDisk], tmp_path: Path, uv_cache: Path, ready_venvs: Path
):
    files = {"requirements.txt": "gunicorn==22.0.0\n", "hooks/before-symlink": hook("true"), "a/b.txt": "b"}
    async with running(Host(tmp_path / "root", uv_cache=uv_cache, venvs=ready_venvs)) as host:
        await host.deploy(wsgi("v1"), "v1")
        fragile.seen.clear()
        await host.deploy(wsgi("v2") | files, "v2")
        labels = dict.fromkeys(fragile.seen)
        before = host.state()
        failed = []
        for number, label in enumerate(labels):
            data = await asyncio.to_thread(host.bundle, wsgi("v3") | files | {"n.txt": str(number)}, "v3")
            fragile.fail_at = label
            status, answer = await host.post(data)
            fragile.fail_at = ""
            if status == 200:
                assert label.startswith(("cleanup.", "unpack.remove", "venv.")), label
                await host.rollback()
                before = host.state()
                continue
            failed.append(label)
            assert answer["code"] == "disk_error", (label, answer)
            assert await host.serving() == "v2", label
            after = host.state()
            assert (after["current"], after["venv"]) == (before["current"], before["venv"]), label
            before = after
        assert len(failed) > 15
        await host.deploy(wsgi("v4"), "v4")
    async with running(host):
        assert host.state()["staging"] == []
        assert await host.serving() == "v4"
