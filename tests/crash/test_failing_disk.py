"""Every labelled change of the disk fails once: what is live stays, and the next deployment succeeds."""

import asyncio
from pathlib import Path

from agent.host.storage.disk import Disk
from agent.machine import Machine
from pusher.wire import Code, Failed
from tests.host import Host, hook, running, wsgi


class FragileDisk(Disk):
    """Records the labels of its changes; fails once at `fail_at`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.fail_at = ""

    def _at(self, op: str) -> None:
        if op == self.fail_at:
            self.fail_at = ""
            raise Failed(Code.DISK_ERROR, f"Could not do {op}", why="Input/output error")
        self.seen.append(op)


async def test_if_any_change_fails_before_the_commit_the_old_release_serves_as_before(
    tmp_path: Path, uv_cache: Path, ready_venvs: Path
):
    fragile = FragileDisk()
    machine = Machine(disk=fragile)
    files = {"requirements.txt": "gunicorn==22.0.0\n", "hooks/before-symlink": hook("true"), "a/b.txt": "b"}
    async with running(Host(tmp_path / "root", uv_cache=uv_cache, venvs=ready_venvs, machine=machine)) as host:
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
